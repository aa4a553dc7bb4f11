defmodule MVGateway.Trust do
  @moduledoc false
  # Whom a connection believes, and how a token travels. For HTTP and WebSockets alike.

  @doc "Options for :ssl from `cacertfile:`, `insecure: true`, or nothing: the system's roots."
  def tls(opts, host) do
    cond do
      opts[:insecure] -> [verify: :verify_none, log_level: :warning]
      file = opts[:cacertfile] -> [cacertfile: to_charlist(file)] ++ verified(host)
      true -> [cacerts: :public_key.cacerts_get()] ++ verified(host)
    end
  end

  # RFC 6125: a certificate for *.example.org counts for one label, as https says. An address in a URL is compared with the certificate's addresses, which
  # :ssl by itself does only where it dialled a tuple.
  defp verified(host) do
    of_name = :public_key.pkix_verify_hostname_match_fun(:https)

    case address(host) do
      {:ok, address} ->
        same = fn
          _, {:iPAddress, its} -> octets(its) == octets(address)
          reference, presented -> of_name.(reference, presented)
        end

        [verify: :verify_peer, depth: 3, log_level: :warning, customize_hostname_check: [match_fun: same]]

      _ ->
        [
          verify: :verify_peer,
          depth: 3,
          server_name_indication: to_charlist(host),
          customize_hostname_check: [match_fun: of_name]
        ]
    end
  end

  defp octets({_, _, _, _} = address), do: Tuple.to_list(address)

  defp octets(address) when is_tuple(address),
    do: for(word <- Tuple.to_list(address), byte <- [div(word, 256), rem(word, 256)], do: byte)

  defp octets(address), do: :erlang.iolist_to_binary(address) |> :binary.bin_to_list()

  @doc "An IP address as :inet has it, or an error."
  def address(host), do: host |> String.trim("[") |> String.trim("]") |> to_charlist() |> :inet.parse_strict_address()

  @doc "The token's text, or nil. A function is asked."
  def token(nil), do: nil
  def token(token) when is_function(token, 0), do: token(token.())
  def token({module, function, arguments}), do: token(apply(module, function, arguments))
  def token(token) when is_binary(token), do: if(String.trim(token) == "", do: nil, else: String.trim(token))

  @doc "True where a fresh token can be had."
  def renews?(token), do: is_function(token, 0) or is_tuple(token)

  @doc "True where whatever goes there can be read by nobody on the way."
  def private?(%URI{scheme: scheme}) when scheme in ["https", "wss"], do: true
  def private?(%URI{host: host}) when host in ["localhost", "::1"], do: true
  def private?(%URI{host: host}), do: match?({:ok, {127, _, _, _}}, address(host || ""))
end
