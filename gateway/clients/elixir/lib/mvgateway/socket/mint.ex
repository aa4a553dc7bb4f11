defmodule MVGateway.Socket.Mint do
  @moduledoc "Mint.WebSocket (`{:mint_web_socket, \"~> 1.0\"}`), over HTTP/1.1."
  @behaviour MVGateway.Socket

  # By name at run time: Mint need not be there when this is compiled.
  @http Mint.HTTP
  @websocket Mint.WebSocket

  defstruct [:conn, :ref, :websocket, early: ""]

  @impl true
  def connect(uri, path, headers, opts) do
    secure = uri.scheme in ["https", "wss"]
    tls = if secure, do: MVGateway.Trust.tls(opts, uri.host), else: []
    options = [mode: :passive, protocols: [:http1], transport_opts: [timeout: opts[:connect_ms]] ++ tls]
    port = uri.port || if(secure, do: 443, else: 80)
    {http, ws} = if secure, do: {:https, :wss}, else: {:http, :ws}

    with {:ok, conn} <- apply(@http, :connect, [http, uri.host, port, options]),
         {:ok, conn, ref} <- of_upgrade(apply(@websocket, :upgrade, [ws, conn, path, headers])) do
      answered(
        conn,
        ref,
        %{status: nil, headers: [], body: ""},
        System.monotonic_time(:millisecond) + opts[:connect_ms]
      )
    end
  end

  defp of_upgrade({:error, _, reason}), do: {:error, reason}
  defp of_upgrade(done), do: done

  defp answered(conn, ref, seen, until) do
    case apply(@http, :recv, [conn, 0, max(until - System.monotonic_time(:millisecond), 1)]) do
      {:ok, conn, responses} -> whole(conn, ref, Enum.reduce(responses, seen, &see/2), until)
      {:error, _, reason, _} -> {:error, reason}
    end
  end

  defp see({:status, _, status}, seen), do: %{seen | status: status}
  defp see({:headers, _, headers}, seen), do: %{seen | headers: headers}
  defp see({:data, _, data}, seen), do: %{seen | body: seen.body <> data}
  defp see({:done, _}, seen), do: Map.put(seen, :done, true)
  defp see(_, seen), do: seen

  defp whole(conn, ref, %{status: 101, headers: [_ | _]} = seen, _) do
    case apply(@websocket, :new, [conn, ref, 101, seen.headers]) do
      {:ok, conn, websocket} -> {:ok, %__MODULE__{conn: conn, ref: ref, websocket: websocket, early: seen.body}}
      {:error, _, reason} -> {:error, reason}
    end
  end

  defp whole(conn, _, %{done: true} = seen, _) do
    apply(@http, :close, [conn])
    {:error, {:refused, seen.status, seen.body}}
  end

  defp whole(conn, ref, seen, until), do: answered(conn, ref, seen, until)

  @impl true
  def hand_over(self, pid) do
    with {:ok, _} <- apply(@http, :controlling_process, [self.conn, pid]), do: :ok
  end

  @impl true
  def begin(self) do
    {:ok, conn} = apply(@http, :set_mode, [self.conn, :active])
    Kernel.send(self(), {:mvgateway_early, self.ref})
    %{self | conn: conn}
  end

  @impl true
  def handle(%{ref: ref} = self, {:mvgateway_early, ref}), do: decoded(%{self | early: ""}, [self.early])
  def handle(%{ref: ref} = self, {:mvgateway_written, ref}), do: {:ok, self, [:written]}

  def handle(self, message) do
    case apply(@websocket, :stream, [self.conn, message]) do
      {:ok, conn, responses} ->
        decoded(%{self | conn: conn}, for({:data, _, data} <- responses, do: data))

      {:error, conn, reason, _} ->
        {:ok, %{self | conn: conn}, [{:closed, nil, "the connection broke: #{inspect(reason)}"}]}

      :unknown ->
        :unknown
    end
  end

  defp decoded(self, parts) do
    Enum.reduce(parts, {:ok, self, [:heard]}, fn part, {:ok, self, events} ->
      case apply(@websocket, :decode, [self.websocket, part]) do
        {:ok, websocket, frames} ->
          {self, more} = Enum.reduce(frames, {%{self | websocket: websocket}, []}, &event/2)
          {:ok, self, events ++ Enum.reverse(more)}

        {:error, websocket, reason} ->
          {:ok, %{self | websocket: websocket}, events ++ [{:closed, 1002, inspect(reason)}]}
      end
    end)
  end

  defp event({:binary, message}, {self, events}), do: {self, [{:message, message} | events]}
  defp event({:close, code, reason}, {self, events}), do: {self, [{:closed, code, reason || ""} | events]}

  defp event({:ping, payload}, {self, events}) do
    case framed(self, {:pong, payload}) do
      {:ok, self} -> {self, events}
      {:error, reason} -> {self, [{:closed, nil, inspect(reason)} | events]}
    end
  end

  defp event(_, seen), do: seen

  @impl true
  def send(self, messages) do
    done =
      Enum.reduce_while(messages, {:ok, self}, fn message, {:ok, self} ->
        case framed(self, {:binary, message}) do
          {:ok, self} -> {:cont, {:ok, self}}
          error -> {:halt, error}
        end
      end)

    Kernel.send(self(), {:mvgateway_written, self.ref})
    done
  end

  @impl true
  def ping(self), do: framed(self, :ping)

  defp framed(self, frame) do
    with {:ok, websocket, data} <- of_encode(apply(@websocket, :encode, [self.websocket, frame])),
         {:ok, conn} <- of_stream(apply(@websocket, :stream_request_body, [self.conn, self.ref, data])) do
      {:ok, %{self | websocket: websocket, conn: conn}}
    end
  end

  defp of_encode({:error, _, reason}), do: {:error, reason}
  defp of_encode(done), do: done
  defp of_stream({:error, _, reason}), do: {:error, reason}
  defp of_stream(done), do: done

  @impl true
  def close(self) do
    apply(@http, :close, [self.conn])
    :ok
  end
end
