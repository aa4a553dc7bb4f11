defmodule MVGateway.Session do
  @moduledoc """
  A supervised session over a WebSocket: follow a world, publish it, or play its recording. It connects again by itself, with back-off up to 2 s,
  until a refusal that trying again will not mend.

      children = [
        {MVGateway.Session, name: Arena, url: "https://localhost:4433", world: "arena", cacertfile: "certs/ca.pem", to: MyApp.Arena},
        {MVGateway.Session, name: Town, url: "https://localhost:4433", world: "town", role: :publish, token: {MyApp.Tokens, :server, []}}
      ]

  ## Options

    * `url`, `world`, `role` (`:subscribe`, `:publish`), `cacertfile` or `insecure`, `token` (see `MVGateway.HTTP`),
    * `to`: the process, a pid or a name, to which it tells what happens (the one that starts it, unless `pubsub` is given); `pubsub: {MyApp.PubSub, topic}`: by Phoenix.PubSub,
    * of readers: `budget_kbps`, `weights` (key => weight), `follow` (an entity), `delay_s`, and `replay: [mark: "goal"]` (or `tick`/`epoch`, `at`, `[]`: from the beginning) with
      `paused: true` or `speed`,
    * of publishers: `takeover: true`; `epoch`, `resume`, `tick`: the run of another process,
    * `socket`: a module as `MVGateway.Socket` has it; `connect_ms` (5,000), `name`.

  ## What it tells

  `{:mvgateway, name or pid, event}`, where event is `{:welcome, facts}`, `{:changed, %{key => bytes | nil}, %{epoch:, tick:, sent_at:}}`, `{:disconnected, why}`,
  `{:refused, code, detail}` (no session follows until `open/1`), `{:moved, world}`, `{:durable, epoch, tick}`, `{:position, place}` of a recording, or `{:control, message}`, any other.
  While over 1,000 messages wait with whom it tells, what changed is held as newest values.
  """
  use GenServer

  alias MVGateway.{Frame, JSON, Publishing, Refusal, State, Telemetry, Token, Trust}

  @beat_ms 500
  @quiet_ms 1_500
  @dead_ms 5_000
  @dial_ms_max 15_000
  @backoff_ms_min 50
  @backoff_ms_max 2_000
  @renew_again_ms 1_000
  @timer_ms_max 86_400_000
  @queue_max 1_000
  @controls_max 64
  @waiters_max 10_000
  @hops_max 4

  defstruct [
    :url,
    :address,
    :world,
    :role,
    :token,
    :to,
    :pubsub,
    :name,
    :module,
    :socket,
    :dialer,
    :retry,
    :renewal,
    :ended_by,
    :place,
    opts: [],
    status: :waiting,
    state: %State{},
    publishing: nil,
    welcome: %{},
    durable: {0, 0},
    weights: %{},
    let_in: false,
    refreshed: false,
    wait_ms: @backoff_ms_min,
    asked_wait_ms: 0,
    hops: 0,
    heard: 0,
    since: 0,
    controls: [],
    writing: false,
    held: %{},
    waiters: [],
    refusal: nil,
    attempt: 0
  ]

  # --- what others call

  @doc "Start it, linked. See the module's options; a wrong one raises ArgumentError."
  def start_link(opts) do
    opts = opts |> Keyword.put_new_lazy(:to, fn -> if opts[:pubsub], do: nil, else: self() end) |> checked()
    GenServer.start_link(__MODULE__, opts, Keyword.take(opts, [:name]))
  end

  @doc "Publish one frame: key => bytes, nil removes; `keyframe: true`: these are all records. Never waits for the network. `{:ok, tick}` or `{:error, why}`."
  def publish(session, changes, opts \\ []),
    do: GenServer.call(session, {:publish, Map.new(changes), opts[:keyframe] == true})

  @doc "key => bytes of every record."
  def records(session), do: GenServer.call(session, :records)

  @doc "What is known: status, world, role, epoch, tick, durable, address, refusal, welcome, place, and a publisher's `resume`, its secret."
  def info(session), do: GenServer.call(session, :info)

  @doc "Wait until `tick` (the newest) of this epoch is in the store: true, or false where it no longer can be."
  def wait_durable(session, tick \\ nil, timeout_ms \\ 15_000),
    do: GenServer.call(session, {:wait_durable, tick}, timeout_ms)

  @doc "These records matter more or less: key => weight, in the place of the weights before."
  def focus(session, weights), do: GenServer.call(session, {:focus, Map.new(weights)})

  @doc "Send a control message."
  def control(session, fields), do: GenServer.call(session, {:control, fields})

  @doc "Play a recording from where it is; negative: backwards; `:max`: as fast as it goes."
  def play(session, speed \\ 1.0), do: control(session, %{"type" => "play", "speed" => speed})
  @doc "Stop there."
  def pause(session), do: control(session, %{"type" => "pause"})
  @doc "Show a moment: `%{\"tick\" => …}` (with `\"epoch\"`), `%{\"at\" => …}` or `%{\"mark\" => …}`."
  def seek(session, moment), do: control(session, Map.put(moment, "type", "seek"))
  @doc "Pause, and go so many recorded ticks; negative: back."
  def step(session, ticks \\ 1), do: control(session, %{"type" => "step", "n" => ticks})
  @doc "The world as it is now."
  def live(session), do: control(session, %{"type" => "live"})

  @doc "Try again after a refusal."
  def open(session), do: GenServer.call(session, :open)

  # --- starting

  defp checked(opts) do
    uri = URI.parse(to_string(opts[:url]))

    cond do
      uri.scheme not in ["http", "https", "ws", "wss"] or uri.host in [nil, ""] ->
        raise ArgumentError,
              "url: #{inspect(opts[:url])} is no address of a gateway; it is to be like https://HOST:4433"

      opts[:world] in [nil, ""] ->
        raise ArgumentError, "world: which one?"

      opts[:role] not in [nil, :subscribe, :publish] ->
        raise ArgumentError, "role: #{inspect(opts[:role])} is none; it is to be :subscribe or :publish"

      true ->
        opts
    end
  end

  @impl true
  def init(opts) do
    Process.flag(:trap_exit, true)
    # A script has none of its applications started.
    {:ok, _} = Application.ensure_all_started(:ssl)
    role = opts[:role] || :subscribe

    self = %__MODULE__{
      url: base(opts[:url]),
      address: base(opts[:url]),
      world: opts[:world],
      role: role,
      token: opts[:token],
      to: opts[:to],
      pubsub: opts[:pubsub],
      name: opts[:name],
      module: opts[:socket] || MVGateway.Socket.default(),
      opts: opts,
      weights: Map.new(opts[:weights] || %{}),
      publishing: if(role == :publish, do: Publishing.new(opts))
    }

    Process.send_after(self(), :beat, @beat_ms)
    {:ok, self, {:continue, :dial}}
  end

  @impl true
  def handle_continue(:dial, self), do: {:noreply, dial(self)}

  @impl true
  def terminate(_, self) do
    if self.socket, do: self.module.close(self.socket)
    :ok
  end

  # --- dialling: by a process of its own, for a token's function and a path may take their time

  defp dial(%{status: :refused} = self), do: self

  defp dial(self) do
    {session, attempt} = {self(), self.attempt + 1}
    {uri, path, module, token} = {URI.parse(self.address), path(self), self.module, self.token}
    opts = Keyword.put_new(self.opts, :connect_ms, 5_000)

    {pid, _} =
      spawn_monitor(fn ->
        answer =
          with {:ok, socket, token} <- reach(uri, path, module, token, opts),
               :ok <- module.hand_over(socket, session),
               do: {:ok, socket, token}

        send(session, {:dialed, attempt, answer})
      end)

    %{
      self
      | dialer: pid,
        attempt: attempt,
        status: :connecting,
        since: now(),
        let_in: false,
        ended_by: nil,
        asked_wait_ms: 0,
        retry: nil
    }
  end

  defp reach(uri, path, module, source, opts) do
    token = Trust.token(source)

    cond do
      source != nil and token == nil ->
        {:error, {:problem, "no_token", "the function that is the token gave none"}}

      token != nil and not Trust.private?(uri) ->
        {:error,
         {:problem, "config",
          "a token would go to #{uri.host} in clear text, for everybody on the way to read; use https://"}}

      true ->
        headers = if token, do: [{"authorization", "Bearer " <> token}], else: []
        with {:ok, socket} <- module.connect(uri, path, headers, opts), do: {:ok, socket, token}
    end
  end

  @doc false
  def path(%{opts: opts, role: :subscribe} = self) do
    case opts[:replay] do
      nil -> "/v1/worlds/#{part(self.world)}/live?" <> URI.encode_query(reading(self))
      begin -> "/v1/worlds/#{part(self.world)}/replay?" <> URI.encode_query(playing(self.place, begin, opts))
    end
  end

  def path(%{role: :publish} = self),
    do:
      "/v1/worlds/#{part(self.world)}/live?" <> URI.encode_query([role: "publish"] ++ Publishing.query(self.publishing))

  defp reading(%{opts: opts} = self) do
    weights = self.weights |> Enum.sort() |> Enum.map_join(",", fn {key, weight} -> "#{key}:#{weight}" end)
    keys = if weights == "", do: [], else: [keys: weights]
    [role: "subscribe"] ++ for(name <- [:budget_kbps, :follow, :delay_s], opts[name], do: {name, opts[name]}) ++ keys
  end

  # It comes back to where it was.
  defp playing(place, begin, opts) do
    from = if place, do: [epoch: place["epoch"], tick: place["tick"]], else: begin

    from ++
      cond do
        opts[:paused] -> [paused: 1]
        opts[:speed] -> [speed: opts[:speed]]
        true -> []
      end
  end

  defp part(text), do: URI.encode(text, &URI.char_unreserved?/1)

  # --- messages

  @impl true
  def handle_info({:dialed, attempt, {:ok, socket, token}}, %{attempt: attempt, status: :connecting} = self) do
    Telemetry.execute([:session, :connected], %{}, %{world: self.world, role: self.role})

    self = %{
      self
      | dialer: nil,
        socket: self.module.begin(socket),
        status: :connected,
        heard: now(),
        writing: false,
        controls: []
    }

    {:noreply, renew_later(self, token)}
  end

  def handle_info({:dialed, attempt, {:error, why}}, %{attempt: attempt, status: :connecting} = self) do
    {code, detail, facts} = unreached(why, self.address)
    self = %{self | dialer: nil}

    self =
      if is_binary(facts["url"]) and code == "world_held",
        do: sent_on(self, code, detail, facts["url"]),
        else: %{self | ended_by: {code, detail}}

    {:noreply, ended(self, detail)}
  end

  def handle_info({:dialed, _, {:ok, socket, _}}, self) do
    self.module.close(socket)
    {:noreply, self}
  end

  def handle_info({:dialed, _, _}, self), do: {:noreply, self}

  def handle_info({:DOWN, _, :process, pid, reason}, %{dialer: pid} = self),
    do: {:noreply, ended(%{self | dialer: nil, ended_by: {"", "dialling ended: #{inspect(reason)}"}}, "dialling ended")}

  def handle_info({:DOWN, _, :process, _, _}, self), do: {:noreply, self}
  def handle_info({:EXIT, _, :normal}, self), do: {:noreply, self}

  def handle_info({:EXIT, _, reason}, %{socket: nil} = self) when reason in [:shutdown, :killed],
    do: {:stop, reason, self}

  def handle_info({:EXIT, _, _}, self), do: {:noreply, self}
  def handle_info({:retry, attempt}, %{attempt: attempt, status: :waiting} = self), do: {:noreply, dial(self)}
  def handle_info({:retry, _}, self), do: {:noreply, self}
  def handle_info({:renew, attempt}, %{attempt: attempt} = self), do: {:noreply, renew(self)}
  def handle_info({:renew, _}, self), do: {:noreply, self}
  def handle_info({:renewed, attempt, token}, %{attempt: attempt} = self), do: {:noreply, renewed(self, token)}
  def handle_info({:renewed, _, _}, self), do: {:noreply, self}

  def handle_info(:beat, self) do
    Process.send_after(self(), :beat, @beat_ms)
    {:noreply, self |> beat() |> deliver_held()}
  end

  def handle_info(_, %{socket: nil} = self), do: {:noreply, self}

  def handle_info(message, self) do
    case self.module.handle(self.socket, message) do
      {:ok, socket, events} -> {:noreply, events |> Enum.reduce(%{self | socket: socket}, &event/2) |> flush()}
      :unknown -> {:noreply, self}
    end
  end

  defp event(_, %{socket: nil} = self), do: self
  defp event(:heard, self), do: %{self | heard: now()}
  defp event(:written, self), do: %{self | writing: false}
  defp event({:message, message}, self), do: take(self, message)
  defp event({:closed, code, reason}, self), do: closed(self, code, reason)

  # A path on which nothing comes for 5 s, though it was asked, is dead.
  defp beat(%{status: :connecting} = self) do
    if now() - self.since > @dial_ms_max do
      if self.dialer, do: Process.exit(self.dialer, :kill)

      ended(
        %{self | dialer: nil, attempt: self.attempt + 1},
        "no answer from #{self.address}, or no token, within #{div(@dial_ms_max, 1000)} s"
      )
    else
      self
    end
  end

  defp beat(%{status: :connected} = self) do
    silent = now() - self.heard

    cond do
      silent > @dead_ms -> closed(self, nil, "nothing was heard for #{div(@dead_ms, 1000)} s")
      silent > @quiet_ms -> pinged(self)
      true -> self
    end
  end

  defp beat(self), do: self

  defp pinged(self) do
    case self.module.ping(self.socket) do
      {:ok, socket} -> %{self | socket: socket}
      {:error, why} -> closed(self, nil, "nothing can be sent: #{inspect(why)}")
    end
  end

  # --- what comes

  defp take(self, message) do
    case Frame.decode(message) do
      {:frame, frame} -> take_frame(self, frame)
      {:control, json} -> take_control(self, JSON.decode(json))
      :error -> self
    end
  end

  defp take_frame(%{role: :publish} = self, frame) do
    {publishing, changes} = Publishing.adopt(self.publishing, frame)
    told(%{self | publishing: publishing}, changes, frame)
  end

  defp take_frame(self, frame) do
    {state, keys} = State.take(self.state, frame)
    told(%{self | state: state}, Map.new(keys, &{&1, Map.get(state.records, &1)}), frame)
  end

  defp told(self, changes, _) when changes == %{}, do: self

  defp told(self, changes, frame) do
    Telemetry.execute([:session, :frame], %{records: map_size(changes)}, %{world: self.world, tick: frame.tick})
    deliver_held(%{self | held: Map.merge(self.held, changes)}, frame.sent_at)
  end

  defp deliver_held(self, sent_at \\ 0)
  defp deliver_held(%{held: held} = self, _) when held == %{}, do: self

  defp deliver_held(self, sent_at) do
    if crowded?(self.to) do
      self
    else
      {epoch, tick} = place(self)
      notify(%{self | held: %{}}, {:changed, self.held, %{epoch: epoch, tick: tick, sent_at: sent_at}})
    end
  end

  defp crowded?(to) do
    with pid when is_pid(pid) and node(pid) == node() <-
           if(is_atom(to) and to != nil, do: Process.whereis(to), else: to),
         {:message_queue_len, length} <- Process.info(pid, :message_queue_len) do
      length > @queue_max
    else
      _ -> false
    end
  end

  defp place(%{role: :publish, publishing: %{epoch: epoch, tick: tick}}), do: {epoch, tick}
  defp place(%{state: %{epoch: epoch, tick: tick}}), do: {epoch, tick}

  defp take_control(self, {:ok, %{"type" => type} = message}), do: control(type, message, self)
  defp take_control(self, _), do: self

  defp control("welcome", message, self) do
    self = %{self | welcome: message, let_in: true, refreshed: false, wait_ms: @backoff_ms_min, hops: 0}
    notify(welcomed(self, message), {:welcome, message})
  end

  defp control("resync", message, self) do
    self = if message["reason"] == "seek", do: %{self | state: State.expect_reset(self.state)}, else: self
    notify(self, {:control, message})
  end

  defp control("durable", message, self), do: durable(self, message)

  defp control("moved", message, self) do
    to = message["world"]
    self = if is_binary(to) and to not in ["", self.world], do: forget(%{self | world: to}), else: self
    notify(self, {:moved, self.world})
  end

  defp control("bye", message, self) do
    {code, detail} = Refusal.of_bye(message)

    wait =
      if is_number(message["reconnect_after_ms"]),
        do: message["reconnect_after_ms"] |> max(0) |> min(@backoff_ms_max),
        else: 0

    self = %{self | asked_wait_ms: trunc(wait)}
    if code == "world_held", do: sent_on(self, code, detail, message["url"]), else: %{self | ended_by: {code, detail}}
  end

  defp control("error", message, self) do
    {code, detail} = {to_string(message["code"]), to_string(message["message"])}
    if code == "world_held", do: sent_on(self, code, detail, message["url"]), else: %{self | ended_by: {code, detail}}
  end

  defp control("position", message, self), do: notify(%{self | place: message}, {:position, message})
  defp control(_, message, self), do: notify(self, {:control, message})

  defp welcomed(%{role: :publish} = self, message) do
    {publishing, keyframe} = Publishing.welcome(self.publishing, message)
    self = say(%{self | publishing: publishing}, %{"type" => "changes"})
    self = if is_map(message["durable"]), do: durable(self, message["durable"]), else: self
    if keyframe, do: flush(self), else: self
  end

  defp welcomed(self, _), do: self

  defp durable(self, %{"epoch" => epoch, "tick" => tick}) when is_integer(epoch) and is_integer(tick) do
    {met, waiters} =
      Enum.split_with(self.waiters, fn {_, its_epoch, its_tick} ->
        (its_epoch || epoch) == epoch and its_tick <= tick
      end)

    for {from, _, _} <- met, do: GenServer.reply(from, true)
    notify(%{self | durable: {epoch, tick}, waiters: waiters}, {:durable, epoch, tick})
  end

  defp durable(self, _), do: self

  # Ask the gateway at that address next, unless it is none, would be less private, or is one hop too many.
  defp sent_on(%{role: :publish} = self, code, detail, _), do: %{self | ended_by: {code, detail}}

  defp sent_on(self, code, detail, there) do
    to = base(there)
    safe = to != nil and (String.starts_with?(to, "https") or String.starts_with?(self.url, "http:"))

    if safe and to != self.address and self.hops < @hops_max,
      do: %{self | address: to, hops: self.hops + 1, ended_by: {"moved", detail}},
      else: %{self | ended_by: {code, detail}}
  end

  defp base(whole) do
    case URI.parse(to_string(whole)) do
      %URI{scheme: scheme, host: host} = uri
      when scheme in ["http", "https", "ws", "wss"] and is_binary(host) and host != "" ->
        secure = scheme in ["https", "wss"]
        host = if String.contains?(host, ":"), do: "[#{host}]", else: host
        port = if scheme in ["http", "https"], do: uri.port, else: uri.port || if(secure, do: 443, else: 80)
        "#{if secure, do: "https", else: "http"}://#{host}:#{port}"

      _ ->
        nil
    end
  end

  # --- how it ends

  defp unreached({:refused, status, body}, _) do
    facts =
      case JSON.decode(body) do
        {:ok, %{} = facts} -> facts
        _ -> %{}
      end

    code = facts["code"] || if(status >= 500, do: "", else: "http_#{status}")
    {code, facts["detail"] || "the gateway answered #{status}", facts}
  end

  defp unreached({:problem, code, detail}, _), do: {code, detail, %{}}
  defp unreached(reason, address), do: {"", "#{address} did not answer, or is not trusted: #{inspect(reason)}", %{}}

  defp closed(self, close, reason) do
    self.module.close(self.socket)
    self = %{self | socket: nil, ended_by: self.ended_by || {Refusal.of_close(close), reason}}
    {_, detail} = self.ended_by
    Telemetry.execute([:session, :disconnected], %{}, %{world: self.world, role: self.role, reason: detail})
    self |> notify({:disconnected, detail}) |> ended(detail)
  end

  defp ended(self, detail) do
    {code, detail} = self.ended_by || {"", detail}

    self = %{
      self
      | socket: nil,
        status: :waiting,
        writing: false,
        controls: [],
        attempt: self.attempt + 1,
        publishing: self.publishing && Publishing.broke(self.publishing)
    }

    case if(code == "moved",
           do: :moved,
           else: Refusal.judge(code, self.role, Trust.renews?(self.token) and not self.refreshed)
         ) do
      :moved -> retry(self, 0)
      :again_with_token -> retry(%{self | refreshed: true}, self.asked_wait_ms)
      :again -> self |> home() |> backed_off()
      :final -> refuse(self, code, detail)
    end
  end

  # The given address knows where the world is now.
  defp home(%{let_in: false} = self), do: %{self | address: self.url, hops: 0}
  defp home(self), do: %{self | hops: 0}

  defp backed_off(self) do
    wait = max(self.asked_wait_ms, div(self.wait_ms, 2) + :rand.uniform(div(self.wait_ms, 2)))
    retry(%{self | wait_ms: min(self.wait_ms * 2, @backoff_ms_max)}, wait)
  end

  defp retry(self, wait), do: %{self | retry: Process.send_after(self(), {:retry, self.attempt}, wait)}

  defp refuse(self, code, detail) do
    for {from, _, _} <- self.waiters, do: GenServer.reply(from, false)
    Telemetry.execute([:session, :refused], %{}, %{world: self.world, role: self.role, code: code})
    notify(%{self | status: :refused, refusal: {code, detail}, waiters: []}, {:refused, code, detail})
  end

  defp forget(self) do
    gone = Map.new(self.state.records, fn {key, _} -> {key, nil} end)
    self = %{self | state: %State{}}
    if gone == %{}, do: self, else: deliver_held(%{self | held: Map.merge(self.held, gone)})
  end

  defp notify(self, event) do
    message = {:mvgateway, self.name || self(), event}

    case self.pubsub do
      {server, topic} -> apply(Phoenix.PubSub, :broadcast, [server, topic, message])
      nil -> :ok
    end

    if self.to && (is_pid(self.to) or Process.whereis(self.to)), do: send(self.to, message)
    self
  end

  # --- tokens

  defp renew_later(self, nil), do: self

  defp renew_later(self, token) do
    if Trust.renews?(self.token) and is_integer(Token.renew_in(token)) do
      Process.send_after(self(), {:renew, self.attempt}, min(Token.renew_in(token), @timer_ms_max))
    end

    self
  end

  defp renew(self) do
    {session, attempt, source} = {self(), self.attempt, self.token}
    spawn(fn -> send(session, {:renewed, attempt, Trust.token(source)}) end)
    Process.send_after(self(), {:renew, :late}, @dial_ms_max)
    self
  end

  defp renewed(self, nil) do
    Process.send_after(self(), {:renew, self.attempt}, @renew_again_ms)
    self
  end

  defp renewed(self, token), do: self |> say(%{"type" => "token", "token" => token}) |> flush() |> renew_later(token)

  # --- sending: one write at a time; what comes meanwhile waits as newest values

  defp say(self, fields), do: %{self | controls: Enum.take(self.controls ++ [Frame.control(fields)], -@controls_max)}

  defp flush(%{status: :connected, writing: false, controls: [_ | _] = messages} = self),
    do: write(%{self | controls: []}, messages)

  defp flush(%{status: :connected, writing: false, role: :publish, let_in: true} = self) do
    case Publishing.due(self.publishing) do
      {publishing, []} -> %{self | publishing: publishing}
      {publishing, messages} -> write(%{self | publishing: publishing}, messages)
    end
  end

  defp flush(self), do: self

  defp write(self, messages) do
    case self.module.send(self.socket, messages) do
      {:ok, socket} -> %{self | socket: socket, writing: true}
      {:error, why} -> closed(self, nil, "nothing can be sent: #{inspect(why)}")
    end
  end

  # --- calls

  @impl true
  def handle_call({:publish, _, _}, _, %{role: :subscribe} = self),
    do: {:reply, {:error, "#{self.world} is read here, not published: role: :publish"}, self}

  def handle_call({:publish, changes, keyframe}, _, self) do
    case Publishing.publish(self.publishing, changes, keyframe) do
      {:ok, publishing} -> {:reply, {:ok, publishing.tick}, flush(%{self | publishing: publishing})}
      {:error, why} -> {:reply, {:error, why}, self}
    end
  end

  def handle_call(:records, _, %{role: :publish} = self), do: {:reply, self.publishing.records, self}
  def handle_call(:records, _, self), do: {:reply, self.state.records, self}

  def handle_call(:info, _, self) do
    {epoch, tick} = place(self)
    facts = Map.take(self, [:status, :world, :role, :durable, :address, :refusal, :welcome, :place])
    {:reply, Map.merge(facts, %{epoch: epoch, tick: tick, resume: self.publishing && self.publishing.resume}), self}
  end

  def handle_call({:wait_durable, tick}, from, %{role: :publish} = self) do
    tick = tick || self.publishing.tick
    {epoch, done} = self.durable

    cond do
      self.status == :refused or length(self.waiters) >= @waiters_max ->
        {:reply, false, self}

      epoch == self.publishing.epoch and epoch > 0 and done >= tick ->
        {:reply, true, self}

      true ->
        {:noreply,
         %{self | waiters: [{from, if(self.publishing.epoch > 0, do: self.publishing.epoch), tick} | self.waiters]}}
    end
  end

  def handle_call({:wait_durable, _}, _, self), do: {:reply, false, self}

  def handle_call({:focus, weights}, _, self) do
    keys = Map.keys(weights)

    self =
      say(%{self | weights: weights}, %{"type" => "focus", "keys" => keys, "weights" => Enum.map(keys, &weights[&1])})

    {:reply, :ok, flush(self)}
  end

  def handle_call({:control, fields}, _, %{status: :connected} = self),
    do: {:reply, :ok, self |> say(fields) |> flush()}

  def handle_call({:control, _}, _, self), do: {:reply, {:error, "not connected: #{self.status}"}, self}

  def handle_call(:open, _, %{status: :refused} = self),
    do:
      {:reply, :ok,
       dial(%{
         self
         | status: :waiting,
           refusal: nil,
           refreshed: false,
           hops: 0,
           address: self.url,
           wait_ms: @backoff_ms_min
       })}

  def handle_call(:open, _, self), do: {:reply, :ok, self}

  defp now, do: System.monotonic_time(:millisecond)
end
