defmodule MVGateway.Socket do
  @moduledoc """
  What a `MVGateway.Session` needs of a WebSocket. `MVGateway.Socket.Mint` where Mint.WebSocket is loaded, else `MVGateway.Socket.Own`.

  A process of its own dials (`c:connect/4`) and hands over (`c:hand_over/2`); all else is called by the session, to which what comes is sent
  as messages: it gives each to `c:handle/2`.
  """

  @type event :: {:message, binary} | {:closed, code :: integer | nil, reason :: String.t()} | :written | :heard

  @callback connect(uri :: URI.t(), path :: String.t(), headers :: [{String.t(), String.t()}], opts :: keyword) ::
              {:ok, term} | {:error, {:refused, status :: pos_integer, body :: binary} | term}
  @callback hand_over(term, pid) :: :ok | {:error, term}
  @callback begin(term) :: term
  @callback handle(term, message :: term) :: {:ok, term, [event]} | :unknown
  @doc "Send these binary messages; the event `:written` comes once they are on their way. Not called again before that."
  @callback send(term, [binary]) :: {:ok, term} | {:error, term}
  @callback ping(term) :: {:ok, term} | {:error, term}
  @callback close(term) :: :ok

  @doc "The one that is used where none is named."
  def default, do: if(Code.ensure_loaded?(Mint.WebSocket), do: MVGateway.Socket.Mint, else: MVGateway.Socket.Own)
end
