defmodule MVGateway.FrameTest do
  use ExUnit.Case, async: true

  alias MVGateway.{Frame, State}

  test "a large frame is cut into messages that a WebSocket's reader takes, and is the same state" do
    rows = for key <- 0..1799, do: {key, :binary.copy(<<rem(key, 256)>>, 300)}
    messages = Frame.encode_parts(1, 1, [{9_000, :binary.copy("x", 70_000)} | rows], keyframe: true)
    assert length(messages) > 8
    assert Enum.count(messages, &(byte_size(&1) > 65_535)) == 1

    state =
      Enum.reduce(Enum.shuffle(messages), %State{}, fn message, state ->
        {:frame, frame} = Frame.decode(message)
        state |> State.take(frame) |> elem(0)
      end)

    assert Map.delete(state.records, 9_000) == Map.new(rows)
    assert byte_size(state.records[9_000]) == 70_000
    assert state.parts == %{}
  end

  test "a record does not keep the message in which it came" do
    big =
      Frame.encode(1, 1, [
        {1, "small, but of a large message: more than 64 bytes, so that it would be a part of it"},
        {2, :binary.copy("x", 60_000)}
      ])

    {:frame, frame} = Frame.decode(big)
    {state, _} = State.take(%State{}, frame)
    assert :binary.referenced_byte_size(state.records[1]) < 200
  end

  test "removals are remembered in a bounded room" do
    state =
      for tick <- 1..40, reduce: %State{} do
        state ->
          rows = for key <- 0..1999, do: {tick * 2000 + key, nil, tick}
          frame = %{epoch: 1, tick: tick, records: rows, ticks: false, keyframe: false, parts: 1, part: 0}
          state |> State.take(frame) |> elem(0)
      end

    assert map_size(state.gone) <= 16_384
    assert :queue.len(state.removed) == state.removals
  end

  test "after a seek the next keyframe is everything, though it is older" do
    take = fn state, tick, rows, opts ->
      {:frame, frame} = Frame.decode(Frame.encode(1, tick, rows, opts))
      State.take(state, frame)
    end

    {state, _} = take.(%State{}, 50, [{1, "a"}, {2, "b"}], [])
    {state, keys} = take.(State.expect_reset(state), 10, [{2, "older"}], keyframe: true)
    assert state.records == %{2 => "older"}
    assert Enum.sort(Enum.uniq(keys)) == [1, 2]
    assert {state.epoch, state.tick, state.reset} == {1, 10, false}
  end
end
