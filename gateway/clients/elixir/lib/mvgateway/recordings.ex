defmodule MVGateway.Recordings do
  @moduledoc """
  What was recorded of a world: its span, its marks, its state at any moment (docs/RECOVERY.md). To play it, see
  `MVGateway.Session` with `replay:`.
  """
  alias MVGateway.Frame
  alias MVGateway.HTTP
  alias MVGateway.State

  @frames "application/vnd.mvgateway.frames"

  @doc "The last synced state, also right after a crash: `{:ok, %MVGateway.State{}}`."
  def last(url, world, opts \\ []), do: state_of(url, world, "/frames/last", opts)

  @doc "The state of a moment: `tick:` (with `epoch:`) or `at:`, a time or how long ago (`\"90s-ago\"`)."
  def state(url, world, moment, opts \\ []), do: state_of(url, world, "/frames?" <> URI.encode_query(moment), opts)

  @doc "The span: first, last, rows, gaps, marks, retention, parent."
  def summary(url, world, opts \\ []), do: HTTP.json(:get, base(url, world) <> "/recording", nil, opts)

  @doc "The marks."
  def marks(url, world, opts \\ []), do: HTTP.json(:get, base(url, world) <> "/marks", nil, opts)

  @doc "Set a mark; without `\"tick\"` in `members` it is now."
  def mark(url, world, name, members \\ %{}, opts \\ []),
    do: HTTP.json(:post, base(url, world) <> "/marks", Map.put(members, "name", name), opts)

  @doc "A new world that begins as this one was: `%{\"tick\", \"epoch\"}`, `%{\"at\"}` or `%{\"mark\"}`."
  def branch(url, world, name, moment, opts \\ []),
    do: HTTP.json(:post, base(url, world) <> "/branch", Map.put(moment, "name", name), opts)

  defp state_of(url, world, path, opts) do
    with {:ok, answer} <- HTTP.ask(:get, base(url, world) <> path, [{"accept", @frames}], "", opts) do
      {messages, rest} = Frame.split(answer.body)
      taken = Enum.reduce_while(messages, {:ok, %State{}}, &take/2)
      if rest == "", do: taken, else: malformed()
    end
  end

  defp take(message, {:ok, state}) do
    case Frame.decode(message) do
      {:frame, frame} -> {:cont, {:ok, state |> State.take(frame) |> elem(0)}}
      {:control, _} -> {:cont, {:ok, state}}
      :error -> {:halt, malformed()}
    end
  end

  defp malformed,
    do:
      {:error, %HTTP.Error{status: 200, code: "malformed", detail: "what came is not made of the protocol's messages"}}

  defp base(url, world),
    do: String.trim_trailing(url, "/") <> "/v1/worlds/" <> URI.encode(world, &URI.char_unreserved?/1)
end
