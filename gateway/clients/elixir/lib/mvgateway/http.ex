defmodule MVGateway.HTTP do
  @moduledoc """
  Requests to a gateway by whichever HTTP client is there. A client is a module with `c:request/5`:

    * `MVGateway.HTTP.Req` where Req is loaded, else `MVGateway.HTTP.Httpc` (Erlang's own): the default,
    * `{MVGateway.HTTP.Finch, name: MyApp.Finch}`: your own pool,
    * or one of yours: `http: {My.Client, options}`.

  Options of every call: `http:`, `token:` (a string, a function of no arguments or `{module, function, arguments}` that answers a fresh
  one), `cacertfile:`, `insecure:`, `connect_ms:` (5,000), `timeout_ms:` (15,000), `body_bytes_max:` (64 MiB).
  """

  @type answer :: %{status: pos_integer, headers: [{String.t(), String.t()}], body: binary}
  @doc "One request. Header names of the answer are lower case. `{:error, reason}` where nothing answered in time."
  @callback request(
              method :: atom,
              url :: String.t(),
              headers :: [{String.t(), String.t()}],
              body :: binary,
              opts :: keyword
            ) ::
              {:ok, answer} | {:error, term}

  defmodule Error do
    @moduledoc "A gateway's no (`status`, `code` and `detail` as docs/API.md has them), or none: code `unanswered`, status 0."
    defexception [:status, :code, :detail, body: "", facts: %{}]

    @impl true
    def message(%{code: code, detail: detail}), do: "#{code}: #{detail}"
  end

  @connect_ms 5_000
  @timeout_ms 15_000
  @body_bytes_max 64 * 1024 * 1024

  @doc "The client that is used where none is named."
  def default, do: if(Code.ensure_loaded?(Req), do: MVGateway.HTTP.Req, else: MVGateway.HTTP.Httpc)

  @doc """
  `{:ok, answer}` for every status from 200 to 299 and for 304, `{:error, %MVGateway.HTTP.Error{}}` for all else. Where a token that a function made is
  refused, a fresh one is tried once.
  """
  def ask(method, url, headers \\ [], body \\ "", opts \\ []) do
    started = System.monotonic_time()
    answer = method |> once(url, headers, body, opts) |> again(method, url, headers, body, opts)
    {_, %{status: status}} = answer

    MVGateway.Telemetry.execute([:http, :stop], %{duration: System.monotonic_time() - started}, %{
      method: method,
      path: URI.parse(url).path,
      status: status
    })

    answer
  end

  defp again({:error, %{status: status}} = refused, method, url, headers, body, opts) when status in [401, 403] do
    if MVGateway.Trust.renews?(opts[:token]), do: once(method, url, headers, body, opts), else: refused
  end

  defp again(answer, _, _, _, _, _), do: answer

  defp once(method, url, headers, body, opts) do
    uri = URI.parse(url)
    token = MVGateway.Trust.token(opts[:token])

    cond do
      uri.scheme not in ["http", "https"] or uri.host in [nil, ""] ->
        {:error,
         %Error{
           status: 0,
           code: "config",
           detail: "#{url} is no address of a gateway; it is to be like https://HOST:4433"
         }}

      token != nil and not MVGateway.Trust.private?(uri) ->
        {:error,
         %Error{
           status: 0,
           code: "config",
           detail: "a token would go to #{uri.host} in clear text, for everybody on the way to read; use https://"
         }}

      true ->
        {client, own} = client(opts[:http] || default())
        headers = if token, do: [{"authorization", "Bearer " <> token} | headers], else: headers
        limits = [connect_ms: @connect_ms, timeout_ms: @timeout_ms, body_bytes_max: @body_bytes_max]

        opts =
          limits
          |> Keyword.merge(Keyword.take(opts, [:cacertfile, :insecure | Keyword.keys(limits)]))
          |> Keyword.merge(own)

        told(client.request(method, url, headers, body, opts), url)
    end
  end

  defp client({module, own}), do: {module, own}
  defp client(module), do: {module, []}

  defp told({:ok, %{status: status} = answer}, _) when status in 200..299 or status == 304, do: {:ok, answer}

  defp told({:ok, %{status: status, body: body}}, _) do
    facts =
      case MVGateway.JSON.decode(body) do
        {:ok, %{} = facts} -> facts
        _ -> %{}
      end

    code = facts["code"] || "http_#{status}"
    {:error, %Error{status: status, code: code, detail: facts["detail"] || code, body: body, facts: facts}}
  end

  defp told({:error, reason}, url) do
    {:error, %Error{status: 0, code: "unanswered", detail: "#{URI.parse(url).host} gave no answer: #{inspect(reason)}"}}
  end

  @doc "As `ask/5` with a JSON body and answer: `{:ok, facts}`."
  def json(method, url, members, opts, headers \\ []) do
    body = if members == nil, do: "", else: MVGateway.JSON.encode(members)
    type = if members == nil, do: [], else: [{"content-type", "application/json"}]

    with {:ok, answer} <- ask(method, url, [{"accept", "application/json"} | type] ++ headers, body, opts) do
      case MVGateway.JSON.decode(answer.body) do
        {:ok, %{} = facts} -> {:ok, facts}
        _ -> {:ok, %{}}
      end
    end
  end

  @doc "The text of a header of an answer, or nil."
  def header(%{headers: headers}, name) do
    Enum.find_value(headers, fn {its, text} -> if its == name, do: text end)
  end
end
