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
