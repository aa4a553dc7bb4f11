defmodule MVGateway.VectorsTest do
  @moduledoc "What every kit reads and makes, byte for byte: tests/kits/vectors, of the repository."
  use ExUnit.Case, async: true

  alias MVGateway.{Entities, Frame, JSON, Refusal, State, Token}

  @folder System.get_env("MVGATEWAY_VECTORS") || Path.expand("../../../../tests/kits/vectors", __DIR__)

  defp cases(name, opts \\ []) do
    {:ok, cases} = @folder |> Path.join(name <> ".json") |> File.read!() |> JSON.decode(opts)
    assert cases != []
    cases
  end

  defp bytes(nil), do: nil
  defp bytes(hex), do: Base.decode16!(hex, case: :lower)
  defp hex(bytes), do: Base.encode16(bytes, case: :lower)

  test "frames are read as they say, and what is malformed is no frame" do
    for %{"name" => name, "message" => message, "frame" => expected} <- cases("frames") do
      case {expected, Frame.decode(bytes(message))} do
        {nil, found} ->
          assert found == :error, name

        {expected, {:frame, frame}} ->
          rows = for [key, data, tick] <- expected["records"], do: {key, bytes(data), tick}
          assert frame.records == rows, name

          for field <- ~w(epoch tick part parts stride sent_at keyframe repair ticks) do
            assert Map.fetch!(frame, String.to_existing_atom(field)) == expected[field], "#{name}: #{field}"
          end
      end
    end
  end

  test "what is made is the same byte for byte" do
    for made <- cases("made") do
      rows = for [key, data, _] <- made["records"], do: {key, bytes(data)}
      opts = [keyframe: made["keyframe"], sent_at: made["sent_at"]]
      assert hex(Frame.encode(made["epoch"], made["tick"], rows, opts)) == made["message"], made["name"]
      assert Enum.map(Frame.encode_parts(made["epoch"], made["tick"], rows, opts), &hex/1) == [made["message"]]
    end
  end

  test "every story ends in the state that it says, and each message changes what it says" do
    for story <- cases("states") do
      state =
        for {[message, changed, epoch, tick], at} <- Enum.with_index(story["steps"]), reduce: %State{} do
          state ->
            {state, keys} =
              case Frame.decode(bytes(message)) do
                {:frame, frame} -> State.take(state, frame)
                :error -> {state, []}
              end

            assert {at, keys |> Enum.uniq() |> Enum.sort()} == {at, changed}, story["name"]
            assert {state.epoch, state.tick} == {epoch, tick}, "#{story["name"]}, message #{at}"
            state
        end

      assert Map.new(state.records, fn {key, data} -> {to_string(key), hex(data)} end) == story["records"]
      assert Map.keys(state.orders) |> Enum.sort() == Map.keys(state.records) |> Enum.sort()
    end
  end

  test "control messages are read as they say, and made byte for byte" do
    for %{"name" => name, "message" => message, "fields" => fields} <- cases("controls") do
      {:control, json} = Frame.decode(bytes(message))

      case JSON.decode(json) do
        {:ok, %{"type" => _} = read} -> assert read == fields, name
        _ -> assert fields == nil, name
      end
    end

    for {:object, fields} <- cases("controls", ordered: true), {"fields", {:object, pairs}} <- fields do
      {_, message} = List.keyfind(fields, "message", 0)
      assert hex(Frame.control(pairs)) == message
    end
  end

  test "refusals end a session or not, as they say" do
    for refusal <- cases("refusals") do
      code =
        with message when message != nil <- refusal["message"],
             {:control, json} <- Frame.decode(bytes(message)),
             {:ok, told} <- JSON.decode(json) do
          if told["type"] == "bye", do: told |> Refusal.of_bye() |> elem(0), else: told["code"]
        else
          nil -> Refusal.of_close(refusal["close"])
        end

      again = Refusal.judge(code, :publish, false) == :again

      assert {again, if(again, do: "", else: code)} ==
               {refusal["again"], if(refusal["again"], do: "", else: refusal["code"])},
             refusal["name"]
    end
  end

  test "tokens end when they say" do
    for token <- cases("tokens") do
      case token do
        %{"token" => text, "expires" => expires} -> assert Token.expiry(text) == expires, text
        %{"left_s" => left, "margin_s" => margin} -> assert Token.margin_s(left) == margin
      end
    end
  end

  test "entities are read as they say, and made byte for byte" do
    for {:object, entity} <- cases("entities", ordered: true) do
      %{"head" => {:object, pairs}, "state" => state, "message" => message} = Map.new(entity)
      assert hex(Entities.encode(pairs, bytes(state))) == message
      assert {:ok, %{"state" => read} = head} = Entities.decode(bytes(message))
      assert hex(read) == state
      for {name, value} <- pairs, do: assert(head[name] == value)
    end
  end
end
