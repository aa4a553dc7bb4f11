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
