"""What games do, with the Elixir kit in three processes of their own against a real gateway over a link that loses: an avatar walks from one
server's world to another's, items are traded, the gateway is killed, a film is played; all end with the same bytes."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from bench.link import Host
from tests.kits.abilities import proves
from tests.kits.elixir.engine import mix, running
from tests.kits.godot.engine import Running
from tests.kits.lossy import LOST_MIN, assert_stored, lossy, need_link

pytestmark = need_link()

WALK = """
defmodule Walk do
  alias MVGateway.{Entities, Session}

  def begin(opts), do: Session.start_link(Keyword.merge([url: "{url}", cacertfile: "{ca}", to: self()], opts)) |> elem(1)
  def entities(world), do: Entities.new("{url}", world, cacertfile: "{ca}")

  def serve(world) do
    server = begin(world: world, role: :publish)
    receive do {:mvgateway, ^server, {:welcome, _}} -> server end
  end

  def walk(server, steps) do
    for at <- 1..steps do
      Process.sleep(16)
      {:ok, _} = Session.publish(server, %{10 => "step #{at}"})
    end
  end
end
"""
IMPORTS = """
alias MVGateway.{Entities, Session}
import Walk
"""
TOWN = """
server = serve("town")
{:ok, _} = Session.publish(server, %{1 => "the square", 10 => "step 0"})
town = entities("town")
{:ok, _} = Entities.put(town, "player", "step 0", key: 10)
say("put", true)
told("walk-followed")
walk(server, 60)
Session.wait_durable(server, nil, 60_000) # or the request overtakes the last steps, by a connection of its own
Case.until(fn -> match?({:ok, _}, Entities.hibernate(town, "player", 10)) end)
Case.until(fn -> not is_map_key(Session.records(server), 10) end)
{:ok, %{"ticket" => ticket}} = Entities.transfer(town, ["player"], "forest")
say("ticket", ticket)
[ann, bob] = for who <- ["ann", "bob"], do: Entities.inventory("{url}", who, cacertfile: "{ca}")
{:ok, _} = Entities.put(ann, "gold", %{}, quantity: 10)
{:ok, _} = Entities.put(bob, "sword", %{"edge" => 3})
{:ok, _} = Entities.trade(ann, [%{"item" => "gold", "from" => "ann", "to" => "bob", "quantity" => 7}, %{"item" => "sword", "from" => "bob", "to" => "ann"}])
[{:ok, mine}, {:ok, his}, {:ok, sword}] = [Entities.fetch(ann, "gold"), Entities.fetch(bob, "gold"), Entities.fetch(ann, "sword")]
say("traded", [mine.quantity, his.quantity, sword.value])
told("walk-back")
{:ok, _} = Session.publish(server, %{3 => "after"})
say("durable", Session.wait_durable(server, nil, 60_000))
say("state", hex(Session.records(server)))
told("walk-over")
"""
FOREST = """
server = serve("forest")
{:ok, _} = Session.publish(server, %{2 => "a tree"})
say("ready")
told("walk-ticket")
forest = entities("forest")
{:ok, _} = Entities.accept(forest, text_of("walk-ticket"))
{:ok, _} = Entities.wake(forest, "player", 10)
Case.until(fn -> is_map_key(Session.records(server), 10) end)
say("woken", Session.records(server)[10])
walk(server, 60)
say("durable", Session.wait_durable(server, nil, 60_000))
told("walk-down")
walk(server, 30)
told("walk-back")
walk(server, 30)
{:ok, _} = Session.publish(server, %{3 => "after", 2 => nil})
say("durable", Session.wait_durable(server, nil, 60_000))
say("state", hex(Session.records(server)))
told("walk-over")
"""
CLIENT = """
arena = begin(world: "town", follow: "player")
Case.until(fn -> is_map_key(Session.records(arena), 10) end)
say("follows", Session.info(arena).world)
Case.until(fn -> Session.info(arena).world == "forest" and is_map_key(Session.records(arena), 10) end)
say("there", is_map_key(Session.records(arena), 1))
told("walk-back")
Case.until(fn -> match?(%{3 => _}, Session.records(arena)) and not is_map_key(Session.records(arena), 2) end)
say("state", hex(Session.records(arena)))
film = begin(world: "forest", replay: [], paused: true)
receive do {:mvgateway, ^film, {:position, %{"tick" => _}}} -> :ok end
:ok = Session.play(film, :max)
Case.until(fn -> Session.records(film) == Session.records(arena) end)
say("film", hex(Session.records(film)))
told("walk-over")
"""


@proves("elixir", "scenario", "comes_back", "follow", "transfers", "inventories")
async def test_an_avatar_walks_over_items_are_traded_the_gateway_dies_and_all_end_alike(
    builds: Path, tmp_path: Path
) -> None:
    build = builds / "installed"
    await mix("installed", build, "compile")
    with lossy(tmp_path, 4) as (served, hosts, network):
        async with AsyncExitStack() as stack:

            async def engine(name: str, body: str, host: Host) -> Running:
                def placed(text: str) -> str:
                    return text.replace("{url}", served.url).replace("{ca}", str(served.ca))

                script = running(
                    build,
                    tmp_path,
                    placed(IMPORTS + body),
                    name=name,
                    modules=placed(WALK),
                    prefix=host.command([]),
                )
                return await stack.enter_async_context(script)

            forest = await engine("forest", FOREST, hosts[0])
            await forest.said("ready")
            town = await engine("town", TOWN, hosts[1])
            assert await town.said("put") is True
            client = await engine("client", CLIENT, hosts[2])
            assert await client.said("follows") == "town"
            town.tell("walk-followed")
            town.tell("walk-ticket", await town.said("ticket"))
            assert await forest.said("woken") == "step 60"
            assert await client.said("there") is False
            assert await town.said("traded") == [3, 7, {"edge": 3}]
            assert await forest.said("durable") is True

            served.kill()
            town.tell("walk-down")
            served.start()
            town.tell("walk-back")
            assert await town.said("durable") is True
            assert await forest.said("durable") is True
            states = [await one.said("state") for one in (town, forest, client)]
            film = await client.said("film")
            town.tell("walk-over")
        dropped = network.counters()["dropped_loss"]
    assert dropped > LOST_MIN, "the link lost nothing, so nothing was shown"
    assert set(states[1]) == {"3", "10"}
    assert states[2] == states[1]
    assert film == states[1]

    await assert_stored(tmp_path, {"town": states[0], "forest": states[1]})
