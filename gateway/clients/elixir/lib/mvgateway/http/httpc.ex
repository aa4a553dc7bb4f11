defmodule MVGateway.HTTP.Httpc do
  @moduledoc "Erlang's own HTTP client: nothing has to be installed. Bodies of answers are bounded while they come."
  @behaviour MVGateway.HTTP

  @impl true
  def request(method, url, headers, body, opts) do
    uri = URI.parse(url)
    for app <- [:inets, :ssl], do: {:ok, _} = Application.ensure_all_started(app)
    {type, headers} = Enum.split_with(headers, fn {name, _} -> name == "content-type" end)
    said = for {name, text} <- headers, do: {to_charlist(name), to_charlist(text)}

    request =
      if method in [:get, :head] or (method == :delete and body == ""),
        do: {to_charlist(url), said},
        else: {to_charlist(url), said, content_type(type), body}

    http = [timeout: opts[:timeout_ms], connect_timeout: opts[:connect_ms], autoredirect: false]
    http = if uri.scheme == "https", do: [ssl: MVGateway.Trust.tls(opts, uri.host)] ++ http, else: http
    streamed = if method == :get, do: [stream: :self], else: []

    case :httpc.request(method, request, http, [sync: false, body_format: :binary] ++ streamed) do
      {:ok, id} ->
        receive_all(id, System.monotonic_time(:millisecond) + opts[:timeout_ms], opts[:body_bytes_max], [], [])

      {:error, reason} ->
        {:error, reason}
    end
  end

  defp content_type([{_, type} | _]), do: to_charlist(type)
  defp content_type([]), do: ~c"application/octet-stream"

  defp receive_all(id, until, left, headers, parts) do
    receive do
      {:http, {^id, :stream_start, its}} -> receive_all(id, until, left, its, parts)
      {:http, {^id, :stream, part}} when byte_size(part) > left -> too_much(id)
      {:http, {^id, :stream, part}} -> receive_all(id, until, left - byte_size(part), headers, [part | parts])
      {:http, {^id, :stream_end, its}} -> whole(200, headers ++ its, parts |> Enum.reverse() |> IO.iodata_to_binary())
      {:http, {^id, {{_, status, _}, its, body}}} -> whole(status, its, body)
      {:http, {^id, {:error, reason}}} -> {:error, reason}
    after
      max(until - System.monotonic_time(:millisecond), 0) ->
        :httpc.cancel_request(id)
        {:error, :timeout}
    end
  end

  defp too_much(id) do
    :httpc.cancel_request(id)
    {:error, :answer_too_large}
  end

  defp whole(status, headers, body) do
    headers = for {name, text} <- headers, do: {name |> to_string() |> String.downcase(), to_string(text)}
    {:ok, %{status: status, headers: headers, body: body}}
  end
end
