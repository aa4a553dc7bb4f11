# What 1,800 records of 100 bytes cost Elixir, in microseconds: to decode, and to take into the state; and the drop-in of before beside it,
# where a path to it is given. The best of 40 rounds, for the machine is seldom quiet. Nothing is asserted: speed is judged by who reads it.
#
#     cd gateway/clients/elixir && mix run ../../../tests/kits/elixir/cost.exs [EARLIER.ex]
defmodule Cost do
  def best(rounds, work), do: 1..rounds |> Enum.map(fn _ -> work.() |> elem(0) end) |> Enum.min()

  def message(tick, count, stride) do
    body = for key <- 0..(count - 1), into: <<>>, do: <<key::little-32>> <> if(stride > 0, do: <<>>, else: <<96::little-32>>) <> :binary.copy("x", 96)
    <<1, 0, 0::little-16, 1::little-16, stride::little-16, 1::little-32, tick::little-32, 0::64, body::binary>>
  end

  def run(name, decode, take, state) do
    for stride <- [0, 100], count <- [10, 100, 1_800] do
      messages = for tick <- 1..40, do: message(tick, count, stride)
      decoded = best(40, fn -> :timer.tc(fn -> decode.(hd(messages)) end) end)
      {times, _} = Enum.map_reduce(messages, state, fn message, state ->
        {:frame, frame} = decode.(message)
        :timer.tc(fn -> take.(state, frame) end)
      end)
      IO.puts("#{name}: #{count} records, stride #{stride}: decode #{decoded}, take #{Enum.min(times)} (median #{Enum.at(Enum.sort(times), 20)})")
    end
  end
end

Cost.run("now", &MVGateway.decode/1, &MVGateway.apply_frame/2, %MVGateway.State{})

for file <- System.argv() do
  Code.compiler_options(ignore_module_conflict: true)
  {:ok, text} = File.read(file)
  [{earlier, _} | _] = text |> String.replace("MVGateway", "Earlier") |> Code.compile_string() |> Enum.filter(fn {name, _} -> name == Earlier end)
  Cost.run("earlier", &earlier.decode/1, &earlier.apply_frame/2, struct(Earlier.State))
end
