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
