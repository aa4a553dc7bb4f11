defmodule MVGateway do
  @moduledoc """
  mvgateway's frame protocol, version 1, for Elixir: no dependencies.

  A world is a set of records, u32 key to bytes. Messages come from a WebSocket at
  `wss://HOST:4433/v1/worlds/WORLD/live` (one binary message each) or, length-prefixed, from
  `GET /v1/worlds/WORLD/frames/last`. `decode/1` reads one, `apply_frame/2` keeps the state.

      {:ok, state} = MVGateway.fetch_last("https://localhost:4433", "arena", cacertfile: "certs/ca.pem")
      state.records[7]
  """
  import Bitwise

  @frame 1
  @control 16
  @keyframe 1
  @zstd 2
  @repair 4
  @ticks 8
  @removed 0xFFFFFFFF

  defmodule State do
    @moduledoc "Newest bytes of each key; `orders` and `gone` decide what is newer."
    defstruct epoch: 0, tick: 0, records: %{}, orders: %{}, gone: %{}, parts: %{}
  end

  @doc "One message as `{:frame, map}`, `{:control, json}` or `:error`. JSON stays text: use your own decoder."
  def decode(<<@control, json::binary>>), do: {:control, json}

  def decode(<<@frame, flags, part::little-16, parts::little-16, stride::little-16, epoch::little-32,
        tick::little-32, sent_at::little-64, body::binary>>)
      when (flags &&& @zstd) == 0 do
    with {:ok, records} <- records(body, stride, (flags &&& @ticks) != 0, tick, []) do
      {:frame,
       %{epoch: epoch, tick: tick, sent_at: sent_at, part: part, parts: parts, records: records,
         keyframe: (flags &&& @keyframe) != 0, repair: (flags &&& @repair) != 0}}
    end
  end

  def decode(_), do: :error

  @doc "A frame message. `records`: a list of `{key, bytes}`, or `{key, nil}` to remove."
  def encode(epoch, tick, records, opts \\ []) do
    flags = if opts[:keyframe], do: @keyframe, else: 0
    body = for {key, data} <- records, into: <<>>, do: record(key, data)

    <<@frame, flags, 0::little-16, 1::little-16, 0::little-16, epoch::little-32, tick::little-32,
      System.os_time(:microsecond)::little-64, body::binary>>
  end

  @doc "The state after a decoded frame: what is newer wins, whatever the order of arrival."
  def apply_frame(%State{} = state, frame) do
    state = Enum.reduce(frame.records, state, &newer(&2, frame.epoch, &1))
    order = frame.epoch <<< 32 ||| frame.tick

    state =
      if order > (state.epoch <<< 32 ||| state.tick),
        do: %{state | epoch: frame.epoch, tick: frame.tick},
        else: state

    if frame.keyframe and frame.parts > 0, do: keyframe(state, frame, order), else: state
  end

  @doc "Length-prefixed messages: `{messages, rest}`."
  def split(bytes, messages \\ [])

  def split(<<size::little-32, message::binary-size(size), rest::binary>>, messages),
    do: split(rest, [message | messages])

  def split(rest, messages), do: {Enum.reverse(messages), rest}

  @doc """
  The last synced state of a world. `options`: those of `:ssl`, such as `cacertfile:`, and `token:`, by which the gateway lets us
  in: a string, or a function that answers a fresh one. Where a token is refused and there is a function, it is asked once more.
  """
  def fetch_last(url, world, options \\ []) do
    for app <- [:inets, :ssl], do: {:ok, _} = Application.ensure_all_started(app)
    {token, tls} = Keyword.pop(options, :token)
    address = String.to_charlist("#{url}/v1/worlds/#{URI.encode(world)}/frames/last")
    ask = fn -> last(address, headers(token), Keyword.put_new(tls, :verify, :verify_peer)) end

    case ask.() do
      {:error, {status, _}} when status in [401, 403] and is_function(token, 0) -> ask.()
      answer -> answer
    end
  end

  @doc "The headers that carry a token, a string or a function that answers one; for `fetch_last/3` and for a WebSocket's upgrade."
  def headers(nil), do: []
  def headers(token) when is_function(token, 0), do: headers(token.())
  def headers(token) when is_binary(token), do: [{~c"authorization", String.to_charlist("Bearer " <> String.trim(token))}]

  @doc """
  The control message by which an open session goes on with a fresh token: send it before the old one ends (`renew_in/1`). The gateway
  answers `{"type":"granted","expires":UNIX_SECONDS}`; at the end of a token that was not renewed it says `bye` with the reason `expired`.
  """
  def token_message(token) when is_binary(token), do: <<@control, ~s({"type":"token","token":"), String.trim(token)::binary, ~s("})>>

  @doc "In how many milliseconds a token should be renewed: a quarter of what is left before its `exp`, at most 5 minutes; `:infinity` without one."
  def renew_in(token) do
    with [_, claims, _] <- String.split(token, "."),
         {:ok, json} <- Base.url_decode64(claims, padding: false),
         [_, exp] <- Regex.run(~r/"exp"\s*:\s*(\d+)/, json) do
      left = max(String.to_integer(exp) * 1000 - System.os_time(:millisecond), 0)
      left - min(div(left, 4), 300_000)
    else
      _ -> :infinity
    end
  end

  @doc "Whether a refusal (an `error`'s code, a `bye`'s reason, or an HTTP status) can be mended by a fresh token, and by nothing else: do not try again without one."
  def needs_token?(what), do: what in ["unauthorized", "grant_refused", "forbidden", "expired", "revoked", 401, 403]

  defp last(address, headers, tls) do
    case :httpc.request(:get, {address, headers}, [ssl: tls], body_format: :binary) do
      {:ok, {{_, 200, _}, _, body}} ->
        {messages, ""} = split(body)
        {:ok, Enum.reduce(messages, %State{}, fn m, s -> {:frame, f} = decode(m); apply_frame(s, f) end)}

      {:ok, {{_, status, _}, _, body}} ->
        {:error, {status, body}}

      error ->
        error
    end
  end

  @doc """
  The path and query at which to publish `world`. A publisher that comes back names its `epoch` and its secret, `resume`, as
  its `welcome` told them; the secret belongs in no log.
  """
  def publish_path(world, opts \\ []) do
    query = for key <- [:epoch, :resume, :takeover], value = opts[key], do: {key, value}
    "/v1/worlds/#{URI.encode(world)}/live?" <> URI.encode_query([{:role, "publish"} | query])
  end

  defp record(key, nil), do: <<key::little-32, @removed::little-32>>
  defp record(key, data), do: <<key::little-32, byte_size(data)::little-32, data::binary>>

  defp records(<<>>, _, _, _, acc), do: {:ok, Enum.reverse(acc)}

  defp records(<<own::little-32, rest::binary>>, stride, true, tick, acc) do
    with {:ok, key, data, rest} <- one(rest, stride), do: records(rest, stride, true, tick, [{key, data, own} | acc])
  end

  defp records(body, stride, false, tick, acc) do
    with {:ok, key, data, rest} <- one(body, stride), do: records(rest, stride, false, tick, [{key, data, tick} | acc])
  end

  defp records(_, _, _, _, _), do: :error

  defp one(<<key::little-32, @removed::little-32, rest::binary>>, 0), do: {:ok, key, nil, rest}
  defp one(<<key::little-32, n::little-32, data::binary-size(n), rest::binary>>, 0), do: {:ok, key, data, rest}

  defp one(bytes, stride) when stride >= 4 and byte_size(bytes) >= stride do
    <<data::binary-size(stride), rest::binary>> = bytes
    <<key::little-32, _::binary>> = data
    {:ok, key, data, rest}
  end

  defp one(_, _), do: :error

  defp newer(state, epoch, {key, data, tick}) do
    order = epoch <<< 32 ||| tick

    cond do
      order <= Map.get(state.orders, key, Map.get(state.gone, key, -1)) ->
        state

      data == nil ->
        %{state | records: Map.delete(state.records, key), orders: Map.delete(state.orders, key),
                  gone: Map.put(state.gone, key, order)}

      true ->
        %{state | records: Map.put(state.records, key, data), orders: Map.put(state.orders, key, order),
                  gone: Map.delete(state.gone, key)}
    end
  end

  defp keyframe(state, frame, order) do
    {seen, keys} = Map.get(state.parts, order, {MapSet.new(), MapSet.new()})
    seen = MapSet.put(seen, frame.part)
    keys = Enum.reduce(frame.records, keys, fn {key, _, _}, keys -> MapSet.put(keys, key) end)

    if MapSet.size(seen) < frame.parts do
      %{state | parts: Map.put(state.parts, order, {seen, keys})}
    else
      dead = for {key, at} <- state.orders, at < order, not MapSet.member?(keys, key), do: key
      %{state | records: Map.drop(state.records, dead), orders: Map.drop(state.orders, dead), parts: %{}}
    end
  end
end
