defmodule MVGateway.SessionTest do
  @moduledoc "A session against the gateway at MVGATEWAY_URL, of which MVGATEWAY_CA is the CA file."
  use ExUnit.Case

  alias MVGateway.{Entities, HTTP, Recordings, Session}

  @moduletag :gateway
  @url System.get_env("MVGATEWAY_URL")
  @ca System.get_env("MVGATEWAY_CA")

  setup context do
    {:ok, world: "elixir-#{:erlang.phash2(context.test, 1_000_000)}"}
  end

  defp session(opts, id \\ make_ref()),
    do: start_supervised!({Session, Keyword.merge([url: @url, cacertfile: @ca, to: self()], opts)}, id: id)

  defp entities(world), do: Entities.new(@url, world, cacertfile: @ca)

  defp until(what, left \\ 3_000) do
    cond do
      what.() -> :ok
      left == 0 -> flunk("it did not come to hold")
      true -> Process.sleep(20) && until(what, left - 1)
    end
  end

  test "what is published is followed, removals and large values too", %{world: world} do
    pub = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^pub, {:welcome, %{"role" => "publish", "resume" => _}}}
    big = :crypto.strong_rand_bytes(200_000)
    {:ok, 1} = Session.publish(pub, %{1 => "one", 2 => big})
    sub = session(world: world)
    assert_receive {:mvgateway, ^sub, {:welcome, %{"role" => "subscribe"}}}
    until(fn -> Session.records(sub) == %{1 => "one", 2 => big} end)
    {:ok, 2} = Session.publish(pub, %{1 => nil, 3 => ""})
    assert_receive {:mvgateway, ^sub, {:changed, %{1 => nil} = changes, %{epoch: 1, tick: 2}}}
    assert changes == %{1 => nil, 3 => ""}
    assert Session.wait_durable(pub, nil, 60_000)
    assert {:ok, state} = Recordings.last(@url, world, cacertfile: @ca)
    assert state.records == Session.records(pub)
    assert {:ok, %{records: records}} = MVGateway.fetch_last(@url, world, cacertfile: @ca)
    assert records == Session.records(sub)
  end

  test "an application's supervisor gets it back, and what was said while it was away goes along", %{world: world} do
    pub = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^pub, {:welcome, %{"epoch" => epoch}}}
    {:ok, _} = Session.publish(pub, %{1 => "one"})
    %{socket: %{socket: socket}} = :sys.get_state(pub)
    :ssl.close(socket)
    {:ok, _} = Session.publish(pub, %{2 => "two"})
    assert_receive {:mvgateway, ^pub, {:welcome, %{"epoch" => ^epoch}}}
    sub = session(world: world)
    until(fn -> Session.records(sub) == %{1 => "one", 2 => "two"} end)
  end

  test "a refusal is told, ends it, and it can be opened again", %{world: world} do
    pub = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^pub, {:welcome, _}}
    other = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^other, {:refused, "publisher_present", _}}
    assert %{status: :refused, refusal: {"publisher_present", _}} = Session.info(other)
    refute Session.wait_durable(other, 1)
    taken = session([world: world, role: :publish, takeover: true], :taken)
    assert_receive {:mvgateway, ^taken, {:welcome, %{"epoch" => 2}}}
    assert_receive {:mvgateway, ^pub, {:refused, "taken_over", _}}
    :ok = stop_supervised(:taken)
    until(fn -> Session.open(pub) == :ok and Session.info(pub).status == :connected end)
  end

  test "an address that nothing answers, or that is not believed, is tried again", %{world: world} do
    dead = session(world: world, url: "https://127.0.0.1:1")
    until(fn -> :sys.get_state(dead).attempt > 4 end)
    stranger = session(world: world, cacertfile: nil)
    until(fn -> :sys.get_state(stranger).attempt > 2 end)
    refute_received {:mvgateway, ^stranger, _}
  end

  test "entities are stored, listed, batched and moved", %{world: world} do
    town = entities(world)
    pub = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^pub, {:welcome, _}}

    assert {:ok, %{"revision" => first}} =
             Entities.put(town, "chest:7", %{"gold" => 12}, tags: ["chest", "ü"], class: "box")

    assert {:ok, %{value: %{"gold" => 12}, tags: ["chest", "ü"], class: "box", revision: ^first}} =
             Entities.fetch(town, "chest:7")

    assert {:error, %HTTP.Error{status: 412}} = Entities.put(town, "chest:7", "x", create_only: true)
    assert {:error, %HTTP.Error{status: 404, code: "not_found"}} = Entities.fetch(town, "none")
    assert {:ok, results} = Entities.batch(town, [{:put, "a", <<0, 1>>}, {:get, "chest:7"}, {:delete, "a"}])
    assert Enum.map(results, & &1["id"]) == ["a", "chest:7", "a"]
    assert {:ok, [%{"id" => "chest:7", "value" => %{"gold" => 12}}], revision} = Entities.all(town, tag: "chest")
    assert revision >= first
    assert {:ok, _} = Entities.patch(town, "chest:7", %{"owner" => "ann"})
    assert {:ok, leased} = Entities.acquire(town, "ann")
    assert {:ok, _} = Entities.renew(leased, "ann")
    assert {:ok, %{lease: nil}} = Entities.release(leased, "ann")
    assert {:ok, _} = Entities.delete(town, "chest:7")
  end

  test "an entity that sleeps and wakes changes the publisher's records, and goes to another world", %{world: world} do
    pub = session(world: world, role: :publish)
    other = session(world: world <> "-b", role: :publish)
    for one <- [pub, other], do: assert_receive({:mvgateway, ^one, {:welcome, _}})
    {:ok, _} = Session.publish(pub, %{1 => "stays", 10 => <<2, 0, 0, 0, 5, 0, 0, 0>>})
    town = entities(world)
    assert {:ok, _} = Entities.put(town, "player", <<2, 0, 0, 0, 0, 0, 0, 0>>, kind: :variant, key: 10)
    until(fn -> match?({:ok, _}, Entities.hibernate(town, "player", 10)) end)
    assert_receive {:mvgateway, ^pub, {:changed, %{10 => nil}, _}}
    assert {:ok, %{"ticket" => ticket}} = Entities.transfer(town, ["player"], world <> "-b")
    there = entities(world <> "-b")
    assert {:ok, %{"state" => _}} = Entities.accept(there, ticket)
    assert {:ok, %{"key" => 10}} = Entities.wake(there, "player", 10)
    assert_receive {:mvgateway, ^other, {:changed, %{10 => <<2, 0, 0, 0, 5, 0, 0, 0>>}, _}}
    assert Session.records(pub) == %{1 => "stays"}
    {:ok, _} = Session.publish(other, %{2 => "x"}, keyframe: false)
    assert Session.records(other) == %{2 => "x", 10 => <<2, 0, 0, 0, 5, 0, 0, 0>>}
  end

  test "inventories trade all or nothing", %{world: world} do
    [ann, bob] = for who <- ["ann", "bob"], do: Entities.inventory(@url, "#{who}-#{world}", cacertfile: @ca)
    {:ok, _} = Entities.put(ann, "gold", %{}, quantity: 10)
    {:ok, _} = Entities.put(bob, "sword", %{"edge" => 3})

    moves = fn gold ->
      [
        %{"item" => "gold", "from" => ann.name, "to" => bob.name, "quantity" => gold},
        %{"item" => "sword", "from" => bob.name, "to" => ann.name}
      ]
    end

    assert {:error, %HTTP.Error{status: 409, code: "not_enough"}} = Entities.trade(ann, moves.(11))
    assert {:ok, _} = Entities.trade(ann, moves.(7))
    assert {:ok, %{quantity: 3}} = Entities.fetch(ann, "gold")
    assert {:ok, %{value: %{"edge" => 3}}} = Entities.fetch(ann, "sword")
  end

  test "a recording is marked, branched and played to the same state", %{world: world} do
    pub = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^pub, {:welcome, _}}
    for n <- 1..20, do: {:ok, _} = Session.publish(pub, %{1 => "at #{n}", n => "x"})
    assert Session.wait_durable(pub, nil, 60_000)
    assert {:ok, _} = Recordings.mark(@url, world, "goal", %{}, cacertfile: @ca)
    assert {:ok, %{"marks" => [%{"name" => "goal"}]}} = Recordings.marks(@url, world, cacertfile: @ca)
    assert {:ok, %{"last" => %{"tick" => tick, "epoch" => epoch}}} = Recordings.summary(@url, world, cacertfile: @ca)
    assert {:ok, %{records: then}} = Recordings.state(@url, world, [tick: tick, epoch: epoch], cacertfile: @ca)
    assert then == Session.records(pub)
    assert {:ok, _} = Recordings.branch(@url, world, world <> "-copy", %{"mark" => "goal"}, cacertfile: @ca)
    film = session(world: world, replay: [], paused: true)
    assert_receive {:mvgateway, ^film, {:position, %{"tick" => _}}}
    :ok = Session.play(film, :max)
    until(fn -> Session.records(film) == Session.records(pub) end)
  end

  test "who does not read gets newest values later, and its mailbox is bounded", %{world: world} do
    pub = session(world: world, role: :publish)
    assert_receive {:mvgateway, ^pub, {:welcome, _}}
    test = self()

    slow = spawn_link(fn -> receive do: (:go -> forward(test)) end)
    sub = session(world: world, to: slow)
    until(fn -> Session.info(sub).welcome != %{} end)
    for _ <- 1..1_100, do: send(slow, :busy)
    # What it was about to tell before that is told.
    :sys.get_state(sub)
    before = changes_told(slow)

    for n <- 1..5 do
      {:ok, _} = Session.publish(pub, %{1 => "at #{n}", (n + 1) => "x"})
      until(fn -> Session.records(sub) == Session.records(pub) end)
    end

    assert changes_told(slow) == before
    send(slow, :go)
    newest = Session.records(pub)
    assert_receive {:slow, {:mvgateway, ^sub, {:changed, ^newest, %{epoch: 1, tick: 5}}}}
  end

  defp changes_told(to) do
    {:messages, told} = Process.info(to, :messages)
    Enum.count(told, &match?({:mvgateway, _, {:changed, _, _}}, &1))
  end

  defp forward(to) do
    receive do: (message -> send(to, {:slow, message}))
    forward(to)
  end

  test "options that can't be are refused by name" do
    for opts <- [[url: "ftp://x", world: "a"], [url: @url, world: ""], [url: @url, world: "a", role: :both]] do
      assert_raise ArgumentError, fn -> Session.start_link(opts) end
    end

    assert {:error, %HTTP.Error{code: "config"}} = Recordings.last("http://gateway.example.org", "a", token: "secret")
  end
end
