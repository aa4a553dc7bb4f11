defmodule MVGateway do
  @moduledoc """
  mvgateway's frame protocol, version 1, for Elixir.

  A world is a set of records, u32 key to bytes. `MVGateway.Session` follows or publishes one; `MVGateway.Entities` and
  `MVGateway.Recordings` ask for what is stored. Below them: `decode/1` reads a message, `apply_frame/2` keeps the state.

      {:ok, state} = MVGateway.fetch_last("https://localhost:4433", "arena", cacertfile: "certs/ca.pem")
      state.records[7]
  """
  alias MVGateway.{Frame, HTTP, Recordings, State, Token, Trust}

  @doc "One message as `{:frame, map}`, `{:control, json}` or `:error`. JSON stays text: `MVGateway.JSON.decode/1`, or your own."
  defdelegate decode(message), to: Frame

  @doc "A frame message. `records`: a list of `{key, bytes}`, or `{key, nil}` to remove; options as `MVGateway.Frame.encode/4` has them."
  defdelegate encode(epoch, tick, records, opts \\ []), to: Frame

  @doc "The state after a decoded frame: what is newer wins, whatever the order of arrival."
  def apply_frame(%State{} = state, frame), do: state |> State.take(frame) |> elem(0)

  @doc "Length-prefixed messages: `{messages, rest}`."
  def split(bytes, messages \\ []), do: Frame.split(bytes, messages)

  @doc """
  The last synced state of a world. Options are those of `MVGateway.HTTP`: `cacertfile:`, `token:` and more. Where a token is refused and there is a
  function, it is asked once more. `{:ok, %MVGateway.State{}}`, `{:error, {status, body}}`, or `{:error, reason}` where nothing answered.
  """
  def fetch_last(url, world, options \\ []) do
    case Recordings.last(url, world, options) do
      {:error, %HTTP.Error{status: status, body: body}} when status >= 300 -> {:error, {status, body}}
      {:error, %HTTP.Error{} = error} -> {:error, error}
      done -> done
    end
  end

  @doc "The headers that carry a token, a string or a function that answers one: for a WebSocket of your own."
  def headers(token) do
    case Trust.token(token) do
      nil -> []
      text -> [{~c"authorization", String.to_charlist("Bearer " <> text)}]
    end
  end

  @doc """
  The control message by which an open session goes on with a fresh token: send it before the old one ends (`renew_in/1`). The gateway
  answers `{"type":"granted","expires":UNIX_SECONDS}`; at the end of a token that was not renewed it says `bye` with the reason `expired`.
  """
  def token_message(token) when is_binary(token),
    do: <<16, ~s({"type":"token","token":"), String.trim(token)::binary, ~s("})>>

  @doc "In how many milliseconds a token should be renewed: a quarter of what is left before its `exp`, at most 5 minutes; `:infinity` without one."
  defdelegate renew_in(token), to: Token

  @doc "Whether a refusal (an `error`'s code, a `bye`'s reason, or an HTTP status) can be mended by a fresh token, and by nothing else: do not try again without one."
  def needs_token?(what), do: what in ["unauthorized", "grant_refused", "forbidden", "expired", "revoked", 401, 403]

  @doc """
  The path and query at which to publish `world`. A publisher that comes back names its `epoch` and its secret, `resume`, as
  its `welcome` told them; the secret belongs in no log.
  """
  def publish_path(world, opts \\ []) do
    query = for key <- [:epoch, :resume, :takeover], value = opts[key], do: {key, value}
    "/v1/worlds/#{URI.encode(world)}/live?" <> URI.encode_query([{:role, "publish"} | query])
  end
end
