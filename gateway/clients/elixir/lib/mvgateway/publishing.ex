defmodule MVGateway.Publishing do
  @moduledoc false
  # What a publisher's session keeps: its records, and which of them are still to be sent. Pure.

  alias MVGateway.Frame

  defstruct epoch: 0, tick: 0, resume: "", takeover: false, records: %{}, owed: MapSet.new(), keyframe_due: false

  def new(opts),
    do: %__MODULE__{
      epoch: opts[:epoch] || 0,
      tick: opts[:tick] || 0,
      resume: opts[:resume] || "",
      takeover: opts[:takeover] == true
    }

  @doc "What stands in the address to get this epoch."
  def query(self) do
    run =
      if self.epoch > 0, do: [epoch: self.epoch] ++ if(self.resume != "", do: [resume: self.resume], else: []), else: []

    run ++ if self.takeover, do: [takeover: 1], else: []
  end

  @doc "Take the changes of a tick: {:ok, self}, or {:error, why} and nothing is taken."
  def publish(self, changes, keyframe) do
    case Enum.find_value(changes, &fault/1) do
      nil ->
        {gone, set} = Enum.split_with(changes, fn {_, data} -> data == nil end)
        records = if keyframe, do: %{}, else: Map.drop(self.records, Enum.map(gone, &elem(&1, 0)))
        owed = if keyframe, do: MapSet.new(), else: MapSet.union(self.owed, MapSet.new(changes, &elem(&1, 0)))

        {:ok,
         %{
           self
           | tick: self.tick + 1,
             records: Map.merge(records, Map.new(set)),
             owed: owed,
             keyframe_due: self.keyframe_due or keyframe
         }}

      why ->
        {:error, why}
    end
  end

  defp fault({key, data}) do
    cond do
      not is_integer(key) or key not in 0..0xFFFFFFFF ->
        "#{inspect(key)} is no key; keys are 0 to 4294967295"

      data != nil and not is_binary(data) ->
        "record #{key} is no binary, nor nil"

      data != nil and byte_size(data) > Frame.record_bytes_max() ->
        "record #{key} has #{byte_size(data)} bytes, and a message holds #{Frame.record_bytes_max()}; split it"

      true ->
        nil
    end
  end

  @doc "The messages that are to go now: newest values."
  def due(%{epoch: 0} = self), do: {self, []}

  def due(%{keyframe_due: true} = self) do
    messages = Frame.encode_parts(self.epoch, self.tick, Map.to_list(self.records), keyframe: true)
    {%{self | keyframe_due: false, owed: MapSet.new()}, messages}
  end

  def due(self) do
    if Enum.empty?(self.owed) do
      {self, []}
    else
      rows = for key <- self.owed, do: {key, Map.get(self.records, key)}
      {%{self | owed: MapSet.new()}, Frame.encode_parts(self.epoch, self.tick, rows)}
    end
  end

  @doc "What the gateway's welcome says; true where a keyframe is to begin."
  def welcome(self, message) do
    {epoch, tick} = {message["epoch"], message["tick"]}
    resume = if epoch != self.epoch or message["resume"], do: message["resume"] || "", else: self.resume
    tick = if epoch == self.epoch, do: max(self.tick, tick), else: self.tick
    begun = tick > 0

    {%{
       self
       | epoch: epoch,
         resume: resume,
         takeover: false,
         tick: if(begun, do: tick + 1, else: tick),
         keyframe_due: begun,
         owed: MapSet.new()
     }, begun}
  end

  @doc """
  What the gateway itself changed (an entity went to sleep, or woke) is the newest, and is not said again: {self, changes}. Before this publisher's first
  frame it comes in the epoch before.
  """
  def adopt(self, frame) do
    changes = Map.new(Enum.reverse(frame.records), fn {key, data, _} -> {key, data && :binary.copy(data)} end)
    {gone, set} = Enum.split_with(changes, fn {_, data} -> data == nil end)
    records = self.records |> Map.drop(Enum.map(gone, &elem(&1, 0))) |> Map.merge(Map.new(set))
    owed = Enum.reduce(Map.keys(changes), self.owed, &MapSet.delete(&2, &1))
    tick = if frame.epoch == self.epoch, do: max(self.tick, frame.tick), else: self.tick
    {%{self | records: records, owed: owed, tick: tick}, changes}
  end

  @doc "The connection is gone: the next one begins with a keyframe."
  def broke(self), do: %{self | owed: MapSet.new(), keyframe_due: false}
end
