defmodule MVGateway.HTTP.Req do
  @moduledoc "Req (`{:req, \"~> 0.5\"}`), with its pool and nothing of its retries, redirects and decoding."
  @behaviour MVGateway.HTTP

  @impl true
  def request(method, url, headers, body, opts) do
    tls =
      if String.starts_with?(url, "https"),
        do: [transport_opts: MVGateway.Trust.tls(opts, URI.parse(url).host)],
        else: []

    said = [
      method: method,
      url: url,
      headers: headers,
      body: body,
      retry: false,
      redirect: false,
      decode_body: false,
      compressed: false,
      receive_timeout: opts[:timeout_ms],
      connect_options: [timeout: opts[:connect_ms]] ++ tls
    ]

    # By name at run time: Req need not be there when this is compiled.
    case apply(Req, :request, [said]) do
      {:ok, %{status: status, headers: headers, body: body}} when is_binary(body) ->
        if byte_size(body) > opts[:body_bytes_max],
          do: {:error, :answer_too_large},
          else: {:ok, %{status: status, headers: flat(headers), body: body}}

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp flat(headers), do: for({name, texts} <- headers, text <- List.wrap(texts), do: {name, text})
end
