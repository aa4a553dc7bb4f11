# Made of lib/ beside it, for who copies one file; in a Mix project take the package.

defmodule MVGateway.Telemetry do
  @moduledoc false
  # Events [:mvgateway | name] where :telemetry is loaded.

  def execute(name, measurements, metadata) do
    if Code.ensure_loaded?(:telemetry),
      do: :erlang.apply(:telemetry, :execute, [[:mvgateway | name], measurements, metadata])

    :ok
  end
end

defmodule MVGateway.JSON do
  @moduledoc """
  JSON (RFC 8259), as the protocol needs it: for Elixir 1.14 has none. Objects are maps of strings; texts are made in ASCII.
  """

  @depth_max 64

  @doc "`{:ok, term}` or `:error`. With `ordered: true` an object is `{:object, pairs}`, in their order."
  def decode(text, opts \\ []) do
    {value, rest} = value(blank(text), if(opts[:ordered], do: :ordered, else: :maps), @depth_max)
    if blank(rest) == "", do: {:ok, value}, else: :error
  catch
    :malformed -> :error
  end

  @doc "Text of a term: nil, booleans, numbers, strings, atoms, lists, maps, and lists of pairs as objects in their order."
  def encode(term), do: term |> json() |> IO.iodata_to_binary()

  defp json(nil), do: "null"
  defp json(value) when is_boolean(value), do: to_string(value)
  defp json(value) when is_integer(value), do: Integer.to_string(value)
  defp json(value) when is_float(value), do: Float.to_string(value)
  defp json(value) when is_binary(value), do: [?", for(<<point::utf8 <- value>>, do: escaped(point)), ?"]
  defp json(value) when is_atom(value), do: json(Atom.to_string(value))
  defp json({:object, pairs}), do: object(pairs)
  defp json([{_, _} | _] = pairs), do: object(pairs)
  defp json(values) when is_list(values), do: [?[, values |> Enum.map(&json/1) |> Enum.intersperse(?,), ?]]
  defp json(%{} = map), do: object(Map.to_list(map))

  defp object(pairs) do
    members = for {name, value} <- pairs, do: [json(to_string(name)), ?:, json(value)]
    [?{, Enum.intersperse(members, ?,), ?}]
  end

  defp escaped(?"), do: "\\\""
  defp escaped(?\\), do: "\\\\"
  defp escaped(?\n), do: "\\n"
  defp escaped(?\r), do: "\\r"
  defp escaped(?\t), do: "\\t"
  defp escaped(point) when point in 0x20..0x7E, do: point
  defp escaped(point) when point < 0x10000, do: unit(point)
  defp escaped(point), do: [unit(0xD800 + div(point - 0x10000, 1024)), unit(0xDC00 + rem(point - 0x10000, 1024))]

  defp unit(number), do: ["\\u", number |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(4, "0")]

  defp blank(<<byte, rest::binary>>) when byte in [?\s, ?\t, ?\n, ?\r], do: blank(rest)
  defp blank(rest), do: rest

  defp value(_, _, 0), do: throw(:malformed)
  defp value(<<?", rest::binary>>, _, _), do: string(rest, [])
  defp value(<<?{, rest::binary>>, as, depth), do: members(blank(rest), as, depth - 1, [])
  defp value(<<?[, rest::binary>>, as, depth), do: items(blank(rest), as, depth - 1, [])
  defp value(<<"true", rest::binary>>, _, _), do: {true, rest}
  defp value(<<"false", rest::binary>>, _, _), do: {false, rest}
  defp value(<<"null", rest::binary>>, _, _), do: {nil, rest}
  defp value(text, _, _), do: number(text)

  defp members(<<?}, rest::binary>>, as, _, []), do: {made([], as), rest}

  defp members(<<?", rest::binary>>, as, depth, pairs) do
    {name, rest} = string(rest, [])

    with <<?:, rest::binary>> <- blank(rest),
         {value, rest} = value(blank(rest), as, depth),
         pairs = [{name, value} | pairs],
         <<byte, rest::binary>> when byte in [?,, ?}] <- blank(rest) do
      if byte == ?}, do: {made(pairs, as), rest}, else: members(blank(rest), as, depth, pairs)
    else
      _ -> throw(:malformed)
    end
  end

  defp members(_, _, _, _), do: throw(:malformed)

  defp made(pairs, :maps), do: pairs |> Enum.reverse() |> Map.new()
  defp made(pairs, :ordered), do: {:object, Enum.reverse(pairs)}

  defp items(<<?], rest::binary>>, _, _, []), do: {[], rest}

  defp items(text, as, depth, values) do
    {value, rest} = value(text, as, depth)

    case blank(rest) do
      <<?,, rest::binary>> -> items(blank(rest), as, depth, [value | values])
      <<?], rest::binary>> -> {Enum.reverse([value | values]), rest}
      _ -> throw(:malformed)
    end
  end

  defp string(<<?", rest::binary>>, parts), do: {parts |> Enum.reverse() |> IO.iodata_to_binary(), rest}
  defp string(<<?\\, ?u, rest::binary>>, parts), do: escape(rest, parts)

  defp string(<<?\\, byte, rest::binary>>, parts) do
    case byte do
      ?n -> string(rest, [?\n | parts])
      ?t -> string(rest, [?\t | parts])
      ?r -> string(rest, [?\r | parts])
      ?b -> string(rest, [?\b | parts])
      ?f -> string(rest, [?\f | parts])
      plain when plain in [?", ?\\, ?/] -> string(rest, [plain | parts])
      _ -> throw(:malformed)
    end
  end

  defp string(<<point::utf8, rest::binary>>, parts) when point >= 0x20, do: string(rest, [<<point::utf8>> | parts])
  defp string(_, _), do: throw(:malformed)

  # A pair of surrogates is one character (RFC 8259, section 7); a lone one stands for none.
  defp escape(<<high::binary-size(4), ?\\, ?u, low::binary-size(4), rest::binary>> = text, parts) do
    {first, second} = {hex(high), hex(low)}

    if first in 0xD800..0xDBFF and second in 0xDC00..0xDFFF do
      point = 0x10000 + (first - 0xD800) * 1024 + second - 0xDC00
      string(rest, [<<point::utf8>> | parts])
    else
      lone(text, parts)
    end
  end

  defp escape(text, parts), do: lone(text, parts)

  defp lone(<<four::binary-size(4), rest::binary>>, parts) do
    case hex(four) do
      point when point in 0xD800..0xDFFF -> string(rest, ["\uFFFD" | parts])
      point -> string(rest, [<<point::utf8>> | parts])
    end
  end

  defp lone(_, _), do: throw(:malformed)

  defp hex(four) do
    case Integer.parse(four, 16) do
      {number, ""} when number >= 0 -> number
      _ -> throw(:malformed)
    end
  end

  defp number(text) do
    case Regex.run(~r/\A-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/, text) do
      [all] -> {String.to_integer(all), after_it(text, all)}
      [all | _] -> {float(all), after_it(text, all)}
      nil -> throw(:malformed)
    end
  end

  defp after_it(text, all), do: binary_part(text, byte_size(all), byte_size(text) - byte_size(all))

  defp float(text) do
    case Float.parse(text) do
      {number, ""} -> number
      _ -> throw(:malformed)
    end
  rescue
    ArgumentError -> throw(:malformed)
  end
end

defmodule MVGateway.Frame do
  @moduledoc """
  Messages of the frame protocol, version 1 (docs/FRAMES.md): bytes to terms and back. Nothing here keeps anything.
  """
  import Bitwise

  @frame 1
  @control 16
  @keyframe 1
  @zstd 2
  @repair 4
  @ticks 8
  @removed 0xFFFFFFFF
  @header 24
  @part_bytes 65_535
  @message_bytes_max 16 * 1024 * 1024

  @typedoc "A record: its key, its bytes (nil: removed) and the tick that set it."
  @type row :: {0..0xFFFFFFFF, binary | nil, 0..0xFFFFFFFF}
  @type t :: %{
          epoch: non_neg_integer,
          tick: non_neg_integer,
          sent_at: non_neg_integer,
          part: non_neg_integer,
          parts: non_neg_integer,
          stride: non_neg_integer,
          keyframe: boolean,
          repair: boolean,
          ticks: boolean,
          records: [row]
        }

  @doc "The largest record that a message has room for, in bytes."
  def record_bytes_max, do: @message_bytes_max - @header - 8

  @doc "The largest message that a gateway takes unless it was told to take less, in bytes."
  def message_bytes_max, do: @message_bytes_max

  @doc "One message as `{:frame, map}`, `{:control, json}` or `:error`. The bytes of its records are parts of `message`: whoever keeps some copies them."
  @spec decode(binary) :: {:frame, t} | {:control, binary} | :error
  def decode(<<@control, json::binary>>), do: {:control, json}

  def decode(
        <<@frame, flags, part::little-16, parts::little-16, stride::little-16, epoch::little-32, tick::little-32,
          sent_at::little-64, body::binary>>
      )
      when (flags &&& @zstd) == 0 do
    ticks = (flags &&& @ticks) != 0

    case records(body, stride, ticks, tick) do
      :error ->
        :error

      records ->
        {:frame,
         %{
           epoch: epoch,
           tick: tick,
           sent_at: sent_at,
           part: part,
           parts: parts,
           stride: stride,
           keyframe: (flags &&& @keyframe) != 0,
           repair: (flags &&& @repair) != 0,
           ticks: ticks,
           records: records
         }}
    end
  end

  def decode(_), do: :error

  @doc """
  A frame message. `records`: a list of `{key, bytes}`, or `{key, nil}` to remove. Options: `keyframe`, `part` and `parts`
  (0 and 1), `sent_at` (microseconds since the Unix epoch; now).
  """
  def encode(epoch, tick, records, opts \\ []) do
    flags = if opts[:keyframe], do: @keyframe, else: 0
    sent_at = opts[:sent_at] || System.os_time(:microsecond)
    body = for {key, data} <- records, into: <<>>, do: record(key, data)

    <<@frame, flags, opts[:part] || 0::little-16, opts[:parts] || 1::little-16, 0::little-16, epoch::little-32,
      tick::little-32, sent_at::little-64, body::binary>>
  end

  @doc "A whole frame as messages of at most 65,535 bytes, but where one record is larger."
  def encode_parts(epoch, tick, records, opts \\ []) do
    opts = Keyword.put_new(opts, :sent_at, System.os_time(:microsecond))
    groups = cut(records, @header, [], [])
    parts = length(groups)

    for {group, part} <- Enum.with_index(groups) do
      encode(epoch, tick, group, [part: part, parts: parts] ++ opts)
    end
  end

  @doc "Length-prefixed messages: `{messages, rest}`."
  def split(bytes, messages \\ [])

  def split(<<size::little-32, message::binary-size(size), rest::binary>>, messages),
    do: split(rest, [message | messages])

  def split(rest, messages), do: {Enum.reverse(messages), rest}

  @doc "A control message. `fields`: a map, or a list of pairs where their order matters."
  def control(fields), do: <<@control, MVGateway.JSON.encode(fields)::binary>>

  defp record(key, nil), do: <<key::little-32, @removed::little-32>>
  defp record(key, data), do: <<key::little-32, byte_size(data)::little-32, data::binary>>

  defp cut([], _, group, groups), do: Enum.reverse([Enum.reverse(group) | groups])

  defp cut([{_, data} = one | rest], size, group, groups) do
    more = 8 + if(data, do: byte_size(data), else: 0)

    if size + more > @part_bytes and group != [],
      do: cut(rest, @header + more, [one], [Enum.reverse(group) | groups]),
      else: cut(rest, size + more, [one | group], groups)
  end

  # One clause a shape, so that the match goes on in one binary: 1,800 records take some 100 µs.
  defp records(body, 0, false, tick), do: plain(body, tick, [])
  defp records(body, 0, true, _), do: ticked(body, [])
  defp records(body, stride, false, tick) when stride >= 4, do: strided(body, 0, stride, tick, [])
  defp records(body, stride, true, _) when stride >= 4, do: both(body, 0, stride, [])
  defp records(_, _, _, _), do: :error

  defp plain(<<key::little-32, @removed::little-32, rest::binary>>, tick, rows),
    do: plain(rest, tick, [{key, nil, tick} | rows])

  defp plain(<<key::little-32, size::little-32, data::binary-size(size), rest::binary>>, tick, rows),
    do: plain(rest, tick, [{key, data, tick} | rows])

  defp plain(<<>>, _, rows), do: :lists.reverse(rows)
  defp plain(_, _, _), do: :error

  defp ticked(<<tick::little-32, key::little-32, @removed::little-32, rest::binary>>, rows),
    do: ticked(rest, [{key, nil, tick} | rows])

  defp ticked(<<tick::little-32, key::little-32, size::little-32, data::binary-size(size), rest::binary>>, rows),
    do: ticked(rest, [{key, data, tick} | rows])

  defp ticked(<<>>, rows), do: :lists.reverse(rows)
  defp ticked(_, _), do: :error

  # By binary_part, as a size from outside of a match is written otherwise from Elixir 1.20 on than before.
  defp strided(body, at, _, _, rows) when at == byte_size(body), do: :lists.reverse(rows)

  defp strided(body, at, stride, tick, rows) when at + stride <= byte_size(body) do
    data = binary_part(body, at, stride)
    <<key::little-32, _::binary>> = data
    strided(body, at + stride, stride, tick, [{key, data, tick} | rows])
  end

  defp strided(_, _, _, _, _), do: :error

  defp both(body, at, _, rows) when at == byte_size(body), do: :lists.reverse(rows)

  defp both(body, at, stride, rows) when at + 4 + stride <= byte_size(body) do
    data = binary_part(body, at + 4, stride)
    <<tick::little-32>> = binary_part(body, at, 4)
    <<key::little-32, _::binary>> = data
    both(body, at + 4 + stride, stride, [{key, data, tick} | rows])
  end

  defp both(_, _, _, _), do: :error
end

defmodule MVGateway.State do
  @moduledoc """
  The newest bytes of each key, by the rules of a reader (docs/FRAMES.md, "What is said"): whatever the order in which messages
  come, doubled or not, what is newer wins. `orders` and `gone` decide what is newer: `epoch <<< 32 ||| tick` of each.
  """
  import Bitwise

  @tombstone_ticks 600
  @tombstones_max 16_384
  @keyframes_pending_max 2

  defstruct epoch: 0,
            tick: 0,
            records: %{},
            orders: %{},
            gone: %{},
            parts: %{},
            newest: 0,
            highest: -1,
            floor: -1,
            removed: {[], []},
            removals: 0,
            reset: false

  @type t :: %__MODULE__{}

  @doc "The state after a decoded frame, and the keys that changed (each may be told twice)."
  @spec take(t, MVGateway.Frame.t()) :: {t, [non_neg_integer]}
  def take(%__MODULE__{} = state, frame) do
    order = frame.epoch <<< 32 ||| frame.tick

    with true <- order > state.highest and Map.get(frame, :ticks) == false and not state.reset,
         {pairs, count} <- pairs(frame.records, [], 0),
         values = :maps.from_list(pairs),
         true <- map_size(values) == count do
      take_all(state, frame, order, values)
    else
      _ -> take_newer(state, frame, order)
    end
  end

  @doc "What the next keyframe does not hold is gone: the gateway was asked to go elsewhere in time."
  def expect_reset(%__MODULE__{} = state), do: %{state | reset: true}

  # A record's bytes are copied: a part of a message would keep all of it.
  defp pairs([{_, nil, _} | _], _, _), do: :removal
  defp pairs([{key, data, _} | rest], pairs, count), do: pairs(rest, [{key, :binary.copy(data)} | pairs], count + 1)
  defp pairs([], pairs, count), do: {pairs, count}

  # The frequent case: everything in it is newer than all that is known, no key comes twice, none is removed.
  defp take_all(state, frame, order, values) do
    keys = Map.keys(values)
    orders = Map.from_keys(keys, order)

    all =
      if map_size(values) >= map_size(state.records),
        do: state.orders |> Map.keys() |> Enum.all?(&is_map_key(values, &1))

    state =
      if all,
        do: %{state | records: values, orders: orders},
        else: %{state | records: Map.merge(state.records, values), orders: Map.merge(state.orders, orders)}

    state = if state.gone == %{}, do: state, else: %{state | gone: Map.drop(state.gone, keys)}
    state = seen(%{state | highest: order}, order)

    if frame.keyframe, do: keyframe_part(state, frame, order, keys, keys), else: {state, keys}
  end

  defp take_newer(state, frame, order) do
    {state, keys} = if frame.keyframe and state.reset, do: emptied(state, frame), else: {state, []}
    base = frame.epoch <<< 32

    {state, keys, newest} =
      Enum.reduce(frame.records, {state, keys, order}, fn {key, data, tick}, {state, keys, newest} ->
        own = base ||| tick
        newest = max(newest, own)

        if own > order_at(state, key),
          do: {assign(state, key, data, own), [key | keys], newest},
          else: {state, keys, newest}
      end)

    state = seen(state, newest)
    held = for {key, _, _} <- frame.records, do: key
    if frame.keyframe, do: keyframe_part(state, frame, order, held, keys), else: {state, keys}
  end

  defp emptied(state, frame) do
    held = MapSet.new(frame.records, &elem(&1, 0))
    lost = for {key, _} <- state.records, not MapSet.member?(held, key), do: key
    {%__MODULE__{}, lost}
  end

  defp seen(state, order) when order > state.newest,
    do: %{state | newest: order, epoch: order >>> 32, tick: order &&& 0xFFFFFFFF}

  defp seen(state, _), do: state

  defp order_at(state, key) do
    case state.orders do
      %{^key => order} -> order
      _ -> max(Map.get(state.gone, key, -1), state.floor - 1)
    end
  end

  defp assign(state, key, nil, order) do
    prune(%{
      state
      | records: Map.delete(state.records, key),
        orders: Map.delete(state.orders, key),
        gone: Map.put(state.gone, key, order),
        removed: :queue.in({key, order}, state.removed),
        removals: state.removals + 1,
        highest: max(state.highest, order)
    })
  end

  defp assign(state, key, data, order) do
    %{
      state
      | records: Map.put(state.records, key, :binary.copy(data)),
        orders: Map.put(state.orders, key, order),
        gone: Map.delete(state.gone, key),
        highest: max(state.highest, order)
    }
  end

  # A removal is remembered for a while of ticks, and so many of them at most; oldest first.
  defp prune(state) do
    case :queue.peek(state.removed) do
      {:value, {key, order}} ->
        current = Map.get(state.gone, key) == order
        recent = order >= state.newest - @tombstone_ticks
        room = map_size(state.gone) <= @tombstones_max and state.removals <= 2 * @tombstones_max

        if current and recent and room do
          state
        else
          gone = if current, do: Map.delete(state.gone, key), else: state.gone
          prune(%{state | gone: gone, removed: :queue.drop(state.removed), removals: state.removals - 1})
        end

      :empty ->
        state
    end
  end

  # Once all parts of a keyframe are there, what none of them holds is gone.
  defp keyframe_part(state, %{parts: parts}, order, _, keys) when parts == 0 or order < state.floor, do: {state, keys}

  defp keyframe_part(state, frame, order, held, keys) do
    {seen, known} = Map.get(state.parts, order, {MapSet.new(), %{}})
    seen = MapSet.put(seen, frame.part)
    known = Map.merge(known, Map.from_keys(held, true))

    if MapSet.size(seen) < frame.parts do
      {%{state | parts: newest_parts(Map.put(state.parts, order, {seen, known}))}, keys}
    else
      finish(state, frame, order, known, keys)
    end
  end

  defp newest_parts(parts) when map_size(parts) > @keyframes_pending_max,
    do: newest_parts(Map.delete(parts, parts |> Map.keys() |> Enum.min()))

  defp newest_parts(parts), do: parts

  defp finish(state, frame, order, known, keys) do
    state =
      if Map.get(frame, :ticks, false),
        do: state,
        else: %{state | floor: max(state.floor, order), highest: max(state.highest, order)}

    state = %{state | parts: Map.filter(state.parts, fn {at, _} -> at > order end)}
    lost = for {key, at} <- state.orders, at < order, not is_map_key(known, key), do: key
    {Enum.reduce(lost, state, &assign(&2, &1, nil, order)), lost ++ keys}
  end
end

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

defmodule MVGateway.Token do
  @moduledoc """
  Tokens (docs/ACCESS.md): when they end, when to renew them, and how a backend signs them with a private JWK that
  `mvgateway token keygen` wrote.

      key = MVGateway.Token.key!(File.read!("keys/studio.private.json"))
      MVGateway.Token.sign(key, %{"sub" => "ann", "mv" => %{"sub" => ["plaza-*"]}}, 600)
  """

  @margin_s 300
  @lifetime_s_max 86_400
  @p256_bytes 32

  @doc "When a token ends by its own word (RFC 7519, `exp`), Unix seconds; nil where it does not say."
  def expiry(token) do
    with [_, claims, _] <- String.split(token, "."),
         {:ok, json} <- Base.url_decode64(claims, padding: false),
         {:ok, %{"exp" => exp}} when is_number(exp) <- MVGateway.JSON.decode(json) do
      exp
    else
      _ -> nil
    end
  end

  @doc "So many seconds before its end a token that has `left_s` left is renewed: a quarter of them, at most 300."
  def margin_s(left_s), do: min(max(left_s, 0) / 4, @margin_s)

  @doc "In how many milliseconds a token should be renewed; `:infinity` where it has no end."
  def renew_in(token) do
    case expiry(token) do
      nil ->
        :infinity

      exp ->
        left = max(exp - System.os_time(:millisecond) / 1000, 0)
        trunc((left - margin_s(left)) * 1000)
    end
  end

  @doc "A private key from its JWK, JSON or a map: Ed25519 (`OKP`) or P-256 (`EC`). Raises ArgumentError for any other."
  def key!(jwk) when is_binary(jwk) do
    case MVGateway.JSON.decode(jwk) do
      {:ok, %{} = key} -> key!(key)
      _ -> raise ArgumentError, "a private key is a JWK: a JSON object, as `mvgateway token keygen` writes"
    end
  end

  def key!(%{"kty" => kty, "crv" => crv, "d" => d, "kid" => kid} = jwk)
      when {kty, crv} in [{"OKP", "Ed25519"}, {"EC", "P-256"}] and is_binary(d) and is_binary(kid),
      do: jwk

  def key!(%{"kty" => kty} = jwk) do
    raise ArgumentError,
          "a key of kty #{kty}, crv #{inspect(jwk["crv"])} signs no token that a gateway takes: it is to be a private " <>
            "Ed25519 or P-256 key with a kid, as `mvgateway token keygen` makes; shared secrets (HS256) are refused by every gateway"
  end

  def key!(_), do: raise(ArgumentError, "a private key is a JWK with kty, crv, d and kid")

  @doc """
  A token of these claims that ends in `seconds` (1 to 86,400). JOSE signs it where it is there, Erlang's own crypto where not.
  """
  def sign(jwk, claims, seconds \\ 600) when seconds in 1..@lifetime_s_max do
    key = key!(jwk)
    claims = Map.put_new(claims, "exp", System.os_time(:second) + seconds)
    header = %{"alg" => algorithm(key), "kid" => key["kid"], "typ" => "JWT"}
    if Code.ensure_loaded?(:jose_jwt), do: by_jose(key, header, claims), else: by_crypto(key, header, claims)
  end

  @doc "As `sign/3`, with Erlang's own crypto."
  def by_crypto(key, header, claims) do
    said = encoded(MVGateway.JSON.encode(header)) <> "." <> encoded(MVGateway.JSON.encode(claims))
    said <> "." <> encoded(signature(key, said))
  end

  @doc "What signs: `EdDSA` (RFC 8037) or `ES256` (RFC 7518, section 3.4)."
  def algorithm(%{"kty" => "OKP"}), do: "EdDSA"
  def algorithm(%{"kty" => "EC"}), do: "ES256"

  defp by_jose(key, header, claims) do
    signed = :erlang.apply(:jose_jwt, :sign, [:erlang.apply(:jose_jwk, :from_map, [key]), header, claims])
    {_, token} = :erlang.apply(:jose_jws, :compact, [signed])
    token
  end

  defp signature(%{"kty" => "OKP"} = key, said), do: :crypto.sign(:eddsa, :none, said, [secret(key), :ed25519])

  defp signature(%{"kty" => "EC"} = key, said) do
    der = :crypto.sign(:ecdsa, :sha256, said, [secret(key), :secp256r1])
    {_, r, s} = :public_key.der_decode(:"ECDSA-Sig-Value", der)
    <<r::unsigned-size(@p256_bytes)-unit(8), s::unsigned-size(@p256_bytes)-unit(8)>>
  end

  defp secret(%{"d" => d}) do
    case Base.url_decode64(d, padding: false) do
      {:ok, bytes} -> bytes
      :error -> raise ArgumentError, "the JWK's member d is no base64url"
    end
  end

  defp encoded(bytes), do: Base.url_encode64(bytes, padding: false)
end

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

defmodule MVGateway.HTTP.Finch do
  @moduledoc "A Finch pool of yours: `http: {MVGateway.HTTP.Finch, name: MyApp.Finch}`. Whom it trusts, its pool says (`conn_opts: [transport_opts: …]`)."
  @behaviour MVGateway.HTTP

  @impl true
  def request(method, url, headers, body, opts) do
    built = apply(Finch, :build, [method, url, headers, body])

    case apply(Finch, :request, [built, opts[:name], [receive_timeout: opts[:timeout_ms]]]) do
      {:ok, answer} -> sized(answer, opts[:body_bytes_max])
      {:error, reason} -> {:error, reason}
    end
  end

  defp sized(%{body: body}, bytes_max) when byte_size(body) > bytes_max, do: {:error, :answer_too_large}

  defp sized(%{status: status, headers: headers, body: body}, _),
    do: {:ok, %{status: status, headers: headers, body: body}}
end

defmodule MVGateway.Recordings do
  @moduledoc """
  What was recorded of a world: its span, its marks, its state at any moment (docs/RECOVERY.md). To play it, see
  `MVGateway.Session` with `replay:`.
  """
  alias MVGateway.Frame
  alias MVGateway.HTTP
  alias MVGateway.State

  @frames "application/vnd.mvgateway.frames"

  @doc "The last synced state, also right after a crash: `{:ok, %MVGateway.State{}}`."
  def last(url, world, opts \\ []), do: state_of(url, world, "/frames/last", opts)

  @doc "The state of a moment: `tick:` (with `epoch:`) or `at:`, a time or how long ago (`\"90s-ago\"`)."
  def state(url, world, moment, opts \\ []), do: state_of(url, world, "/frames?" <> URI.encode_query(moment), opts)

  @doc "The span: first, last, rows, gaps, marks, retention, parent."
  def summary(url, world, opts \\ []), do: HTTP.json(:get, base(url, world) <> "/recording", nil, opts)

  @doc "The marks."
  def marks(url, world, opts \\ []), do: HTTP.json(:get, base(url, world) <> "/marks", nil, opts)

  @doc "Set a mark; without `\"tick\"` in `members` it is now."
  def mark(url, world, name, members \\ %{}, opts \\ []),
    do: HTTP.json(:post, base(url, world) <> "/marks", Map.put(members, "name", name), opts)

  @doc "A new world that begins as this one was: `%{\"tick\", \"epoch\"}`, `%{\"at\"}` or `%{\"mark\"}`."
  def branch(url, world, name, moment, opts \\ []),
    do: HTTP.json(:post, base(url, world) <> "/branch", Map.put(moment, "name", name), opts)

  defp state_of(url, world, path, opts) do
    with {:ok, answer} <- HTTP.ask(:get, base(url, world) <> path, [{"accept", @frames}], "", opts) do
      {messages, rest} = Frame.split(answer.body)
      taken = Enum.reduce_while(messages, {:ok, %State{}}, &take/2)
      if rest == "", do: taken, else: malformed()
    end
  end

  defp take(message, {:ok, state}) do
    case Frame.decode(message) do
      {:frame, frame} -> {:cont, {:ok, state |> State.take(frame) |> elem(0)}}
      {:control, _} -> {:cont, {:ok, state}}
      :error -> {:halt, malformed()}
    end
  end

  defp malformed,
    do:
      {:error, %HTTP.Error{status: 200, code: "malformed", detail: "what came is not made of the protocol's messages"}}

  defp base(url, world),
    do: String.trim_trailing(url, "/") <> "/v1/worlds/" <> URI.encode(world, &URI.char_unreserved?/1)
end

defmodule MVGateway.Entities do
  @moduledoc """
  The entities of a world, or the items of an owner's inventory, over HTTP (docs/ENTITIES.md).

      town = MVGateway.Entities.new("https://localhost:4433", "town", cacertfile: "certs/ca.pem", token: token)
      {:ok, %{"revision" => revision}} = MVGateway.Entities.put(town, "chest:7", %{"gold" => 12}, tags: ["chest"])
      {:ok, chest} = MVGateway.Entities.fetch(town, "chest:7")
      chest.value

  Every call answers `{:ok, …}` or `{:error, %MVGateway.HTTP.Error{}}`; `new!/3`'s options are those of `MVGateway.HTTP`, and `lease:`.
  """
  alias MVGateway.HTTP
  alias MVGateway.JSON

  @enforce_keys [:url, :base, :name]
  defstruct [:url, :base, :name, :lease, opts: []]
  @type t :: %__MODULE__{}

  @entity 32
  @types %{json: "application/json", bytes: "application/octet-stream", variant: "application/vnd.godot.variant"}
  @stream "application/vnd.mvgateway.entities"

  @doc "The entities of `world`."
  def new(url, world, opts \\ []), do: made(url, world, "/v1/worlds/#{part(world)}/entities", opts)

  @doc "The items of `owner`."
  def inventory(url, owner, opts \\ []), do: made(url, owner, "/v1/inventories/#{part(owner)}/items", opts)

  defp made(url, name, base, opts) do
    {lease, opts} = Keyword.pop(opts, :lease)
    %__MODULE__{url: String.trim_trailing(url, "/"), name: name, base: base, lease: lease, opts: opts}
  end

  @doc """
  Store. A map or a list goes as JSON, a binary as it is (`kind: :variant`: it is a Godot Variant). Options: `kind`, `class`, `owner`,
  `tags`, `key`, `quantity`, `if_match` (a revision), `create_only: true`.
  """
  def put(%__MODULE__{} = self, id, state, opts \\ []) do
    kind = opts[:kind] || if is_binary(state), do: :bytes, else: :json

    headers =
      [{"content-type", Map.fetch!(@types, kind)}, {"accept", "application/json"}] ++
        fields(opts) ++ condition(opts) ++ lease(self)

    with {:ok, answer} <- HTTP.ask(:put, path(self, id), headers, bytes(state, kind), self.opts),
         do: {:ok, facts(answer)}
  end

  @doc "Fetch, now or `at:` a time in the past. `value` is the state: JSON decoded, else bytes."
  def fetch(%__MODULE__{} = self, id, opts \\ []) do
    query = if opts[:at], do: "?" <> URI.encode_query(at: opts[:at]), else: ""

    with {:ok, answer} <- HTTP.ask(:get, path(self, id) <> query, lease(self), "", self.opts) do
      kind = kind_of(HTTP.header(answer, "content-type") || "")

      {:ok,
       Map.merge(described(answer), %{id: id, kind: kind, revision: revision(answer), value: value(answer.body, kind)})}
    end
  end

  @doc "Change `class`, `owner` or `tags`."
  def patch(%__MODULE__{} = self, id, members), do: HTTP.json(:patch, path(self, id), members, self.opts, lease(self))

  @doc "Delete. Options: `if_match`."
  def delete(%__MODULE__{} = self, id, opts \\ []) do
    with {:ok, answer} <- HTTP.ask(:delete, path(self, id), condition(opts) ++ lease(self), "", self.opts),
         do: {:ok, facts(answer)}
  end

  @doc "Every entity of these filters (`class`, `owner`, `tag`, `prefix`): `{:ok, entities, revision}`."
  def all(%__MODULE__{} = self, filters \\ []) do
    query = if filters == [], do: "", else: "?" <> URI.encode_query(filters)

    with {:ok, answer} <-
           HTTP.ask(:get, self.url <> self.base <> query, [{"accept", @stream} | lease(self)], "", self.opts) do
      {messages, _} = MVGateway.Frame.split(answer.body)
      found = for <<@entity, _::binary>> = message <- messages, {:ok, entity} <- [decode(message)], do: entity
      revisions = for <<16, json::binary>> <- messages, {:ok, %{"revision" => at}} <- [JSON.decode(json)], do: at
      {:ok, found, List.last(revisions)}
    end
  end

  @doc """
  All of these in one commit, or none: `{:put, id, state, opts}`, `{:get, id}`, `{:delete, id, opts}`. `{:ok, results}` in their order.
  """
  def batch(%__MODULE__{} = self, operations) do
    body =
      for operation <- operations,
          message = message(operation),
          into: <<>>,
          do: <<byte_size(message)::little-32, message::binary>>

    with {:ok, answer} <-
           HTTP.ask(
             :post,
             self.url <> self.base <> ":batch",
             [{"content-type", @stream} | lease(self)],
             body,
             self.opts
           ) do
      {messages, _} = MVGateway.Frame.split(answer.body)
      {:ok, for(message <- messages, {:ok, entity} <- [decode(message)], do: entity)}
    end
  end

  defp message({:put, id, state}), do: message({:put, id, state, []})

  defp message({:put, id, state, opts}) do
    kind = opts[:kind] || if is_binary(state), do: :bytes, else: :json

    encode(
      [
        {"op", "put"},
        {"id", id},
        {"kind", to_string(kind)} | for({name, value} <- opts, name != :kind, do: {to_string(name), value})
      ],
      bytes(state, kind)
    )
  end

  defp message({:get, id}), do: encode([{"op", "get"}, {"id", id}], "")
  defp message({:delete, id}), do: message({:delete, id, []})

  defp message({:delete, id, opts}),
    do: encode([{"op", "delete"}, {"id", id} | for({name, value} <- opts, do: {to_string(name), value})], "")

  @doc "The live record `key` becomes the entity's state and leaves the world."
  def hibernate(%__MODULE__{} = self, id, key, members \\ %{}),
    do: HTTP.json(:post, path(self, id) <> ":hibernate", Map.put(members, "key", key), self.opts, lease(self))

  @doc "The reverse; without `key` it is the one it had."
  def wake(%__MODULE__{} = self, id, key \\ nil),
    do: HTTP.json(:post, path(self, id) <> ":wake", if(key, do: %{"key" => key}, else: %{}), self.opts, lease(self))

  @doc "Take an owner's lease: `{:ok, self}` whose writes are in that name, for 5 s each time that `renew/2` is called."
  def acquire(%__MODULE__{} = self, owner, opts \\ []) do
    members = %{"owner" => owner, "takeover" => opts[:takeover] == true}

    with {:ok, %{"lease" => lease}} <- HTTP.json(:post, leases(self), members, self.opts, lease(self)),
         do: {:ok, %{self | lease: lease}}
  end

  @doc "Keep the lease."
  def renew(%__MODULE__{} = self, owner),
    do: HTTP.json(:put, leases(self) <> "/" <> part(owner), %{}, self.opts, lease(self))

  @doc "Give it back."
  def release(%__MODULE__{} = self, owner) do
    with {:ok, _} <- HTTP.json(:delete, leases(self) <> "/" <> part(owner), nil, self.opts, lease(self)),
         do: {:ok, %{self | lease: nil}}
  end

  @doc "Offer entities to another world, all or none: `{:ok, %{\"ticket\" => …}}`."
  def transfer(%__MODULE__{} = self, ids, to, expires_ms \\ 5_000) do
    members = %{"entities" => ids, "from" => self.name, "to" => to, "expires_ms" => expires_ms}
    HTTP.json(:post, self.url <> "/v1/transfers", members, self.opts, lease(self))
  end

  @doc "Take what a ticket offers, as `owner` where one is named."
  def accept(%__MODULE__{} = self, ticket, owner \\ nil),
    do:
      HTTP.json(
        :post,
        transfers(self, ticket) <> ":accept",
        if(owner, do: %{"owner" => owner}, else: %{}),
        self.opts,
        lease(self)
      )

  @doc "Take an offer back."
  def cancel(%__MODULE__{} = self, ticket),
    do: HTTP.json(:post, transfers(self, ticket) <> ":cancel", %{}, self.opts, lease(self))

  @doc "How a transfer stands."
  def transfer_record(%__MODULE__{} = self, ticket), do: HTTP.json(:get, transfers(self, ticket), nil, self.opts)

  @doc "Move items between two owners, all or nothing: `%{\"item\", \"from\", \"to\", \"quantity\"}` each."
  def trade(%__MODULE__{} = self, moves, expect \\ []),
    do:
      HTTP.json(
        :post,
        self.url <> "/v1/inventories:trade",
        %{"moves" => moves, "expect" => expect},
        self.opts,
        lease(self)
      )

  @doc "An entity message from its head, a map or pairs, and its state."
  def encode(head, state) do
    text = JSON.encode(head)
    <<@entity, 0::24, byte_size(text)::little-32, text::binary, state::binary>>
  end

  @doc "An entity message's head with `\"state\"`, its bytes, and `\"value\"`; `:error` where it is none."
  def decode(<<@entity, _::binary-size(3), size::little-32, text::binary-size(size), state::binary>>) do
    case JSON.decode(text) do
      {:ok, %{} = head} ->
        kind = Enum.find([:json, :bytes, :variant], :variant, &(to_string(&1) == head["kind"]))
        state = :binary.copy(state)
        {:ok, Map.merge(head, %{"state" => state, "value" => value(state, kind)})}

      _ ->
        :error
    end
  end

  def decode(_), do: :error

  defp path(self, id), do: self.url <> self.base <> "/" <> part(id)
  defp leases(self), do: self.url <> "/v1/worlds/#{part(self.name)}/leases"
  defp transfers(self, ticket), do: self.url <> "/v1/transfers/" <> part(ticket)
  defp part(text), do: URI.encode(text, &URI.char_unreserved?/1)
  defp lease(%{lease: nil}), do: []
  defp lease(%{lease: lease}), do: [{"x-owner-lease", lease}]

  defp fields(opts) do
    texts = for name <- [:class, :owner], opts[name], do: {"x-entity-#{name}", part(opts[name])}
    numbers = for name <- [:key, :quantity, :epoch, :tick], opts[name], do: {"x-entity-#{name}", to_string(opts[name])}
    tags = if opts[:tags], do: [{"x-entity-tags", Enum.map_join(opts[:tags], ",", &part/1)}], else: []
    texts ++ numbers ++ tags
  end

  defp condition(opts) do
    cond do
      opts[:if_match] -> [{"if-match", ~s("#{opts[:if_match]}")}]
      opts[:create_only] -> [{"if-none-match", "*"}]
      true -> []
    end
  end

  defp described(answer) do
    text = fn name -> HTTP.header(answer, "x-entity-" <> name) end
    number = fn name -> if told = text.(name), do: String.to_integer(told) end

    %{
      class: URI.decode(text.("class") || ""),
      owner: URI.decode(text.("owner") || ""),
      tags: for(tag <- String.split(text.("tags") || "", ",", trim: true), do: URI.decode(tag)),
      key: number.("key"),
      quantity: number.("quantity") || 1
    }
  end

  defp kind_of(type),
    do: Enum.find_value(@types, :bytes, fn {kind, its} -> if String.starts_with?(type, its), do: kind end)

  defp revision(answer) do
    case Integer.parse(String.replace(HTTP.header(answer, "etag") || "", "\"", "")) do
      {revision, _} -> revision
      :error -> nil
    end
  end

  defp facts(answer) do
    case JSON.decode(answer.body) do
      {:ok, %{} = facts} -> facts
      _ -> %{}
    end
  end

  defp bytes(state, :json), do: JSON.encode(state)
  defp bytes(state, _) when is_binary(state), do: state

  defp bytes(_, kind),
    do: raise(ArgumentError, "a state of kind #{kind} is a binary; anything else goes with kind: :json")

  defp value("", _), do: nil

  defp value(state, :json) do
    case JSON.decode(state) do
      {:ok, value} -> value
      :error -> state
    end
  end

  defp value(state, _), do: state
end

defmodule MVGateway do
  @moduledoc """
  mvgateway's frame protocol, version 1, for Elixir.

  A world is a set of records, u32 key to bytes. `MVGateway.Session` follows or publishes one; `MVGateway.Entities` and
  `MVGateway.Recordings` ask for what is stored. Below them: `decode/1` reads a message, `apply_frame/2` keeps the state.

      {:ok, state} = MVGateway.fetch_last("https://localhost:4433", "arena", cacertfile: "certs/ca.pem")
      state.records[7]
  """
  alias MVGateway.{Frame, HTTP, Recordings, State, Token, Trust}

  @doc "One message as `{:frame, map}`, `{:control, json}` or `:error`. JSON stays text: `MVGateway.JSON.decode/1`, or your own."
  defdelegate decode(message), to: Frame

  @doc "A frame message. `records`: a list of `{key, bytes}`, or `{key, nil}` to remove; options as `MVGateway.Frame.encode/4` has them."
  defdelegate encode(epoch, tick, records, opts \\ []), to: Frame

  @doc "The state after a decoded frame: what is newer wins, whatever the order of arrival."
  def apply_frame(%State{} = state, frame), do: state |> State.take(frame) |> elem(0)

  @doc "Length-prefixed messages: `{messages, rest}`."
  def split(bytes, messages \\ []), do: Frame.split(bytes, messages)

  @doc """
  The last synced state of a world. Options are those of `MVGateway.HTTP`: `cacertfile:`, `token:` and more. Where a token is refused and there is a
  function, it is asked once more. `{:ok, %MVGateway.State{}}`, `{:error, {status, body}}`, or `{:error, reason}` where nothing answered.
  """
  def fetch_last(url, world, options \\ []) do
    case Recordings.last(url, world, options) do
      {:error, %HTTP.Error{status: status, body: body}} when status >= 300 -> {:error, {status, body}}
      {:error, %HTTP.Error{} = error} -> {:error, error}
      done -> done
    end
  end

  @doc "The headers that carry a token, a string or a function that answers one: for a WebSocket of your own."
  def headers(token) do
    case Trust.token(token) do
      nil -> []
      text -> [{~c"authorization", String.to_charlist("Bearer " <> text)}]
    end
  end

  @doc """
  The control message by which an open session goes on with a fresh token: send it before the old one ends (`renew_in/1`). The gateway
  answers `{"type":"granted","expires":UNIX_SECONDS}`; at the end of a token that was not renewed it says `bye` with the reason `expired`.
  """
  def token_message(token) when is_binary(token),
    do: <<16, ~s({"type":"token","token":"), String.trim(token)::binary, ~s("})>>

  @doc "In how many milliseconds a token should be renewed: a quarter of what is left before its `exp`, at most 5 minutes; `:infinity` without one."
  defdelegate renew_in(token), to: Token

  @doc "Whether a refusal (an `error`'s code, a `bye`'s reason, or an HTTP status) can be mended by a fresh token, and by nothing else: do not try again without one."
  def needs_token?(what), do: what in ["unauthorized", "grant_refused", "forbidden", "expired", "revoked", 401, 403]

  @doc """
  The path and query at which to publish `world`. A publisher that comes back names its `epoch` and its secret, `resume`, as
  its `welcome` told them; the secret belongs in no log.
  """
  def publish_path(world, opts \\ []) do
    query = for key <- [:epoch, :resume, :takeover], value = opts[key], do: {key, value}
    "/v1/worlds/#{URI.encode(world)}/live?" <> URI.encode_query([{:role, "publish"} | query])
  end
end
