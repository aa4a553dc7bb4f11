defmodule MVGateway.Socket.Own do
  @moduledoc """
  A WebSocket (RFC 6455) over :ssl or :gen_tcp, for binary messages: nothing has to be installed. Messages, heads and what waits are bounded; a
  process of its own writes, so that a slow path holds up nobody.
  """
  @behaviour MVGateway.Socket
  import Bitwise, only: [>>>: 2]

  @head_bytes_max 64 * 1024
  @body_bytes_max 64 * 1024
  @message_bytes_max 16 * 1024 * 1024 + 1024
  @send_ms 5_000
  @accept_guid "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

  @enforce_keys [:transport, :socket]
  defstruct [:transport, :socket, :writer, buffer: <<>>, parts: [], size: 0, ponged: nil, writing: 0]

  @impl true
  def connect(uri, path, headers, opts) do
    until = now() + opts[:connect_ms]

    with {:ok, self} <- dial(uri, opts, until) do
      case upgrade(self, uri, path, headers, until) do
        {:ok, self} ->
          {:ok, self}

        error ->
          self.transport.close(self.socket)
          error
      end
    end
  end

  defp dial(uri, opts, until) do
    secure = uri.scheme in ["https", "wss"]
    port = uri.port || if(secure, do: 443, else: 80)
    host = String.trim(uri.host, "[") |> String.trim("]")

    Enum.reduce_while(addresses(host), {:error, :no_address}, fn {family, address}, _ ->
      options = [family, :binary, active: false, nodelay: true, send_timeout: @send_ms, send_timeout_close: true]

      case connected(secure, address, host, port, options, opts, max(until - now(), 1)) do
        {:ok, self} -> {:halt, {:ok, self}}
        {:error, reason} -> {:cont, {:error, reason}}
      end
    end)
  end

  defp connected(true, address, host, port, options, opts, left) do
    with {:ok, socket} <- :ssl.connect(address, port, options ++ MVGateway.Trust.tls(opts, host), left),
         do: {:ok, %__MODULE__{transport: :ssl, socket: socket}}
  end

  defp connected(false, address, _, port, options, _, left) do
    with {:ok, socket} <- :gen_tcp.connect(address, port, options, left),
         do: {:ok, %__MODULE__{transport: :gen_tcp, socket: socket}}
  end

  # Every address of a name, those of IPv4 first.
  defp addresses(host) do
    case MVGateway.Trust.address(host) do
      {:ok, address} ->
        [{if(tuple_size(address) == 4, do: :inet, else: :inet6), address}]

      _ ->
        for family <- [:inet, :inet6],
            {:ok, found} <- [:inet.getaddrs(to_charlist(host), family)],
            address <- found,
            do: {family, address}
    end
  end

  defp upgrade(self, uri, path, headers, until) do
    key = Base.encode64(:crypto.strong_rand_bytes(16))
    host = if uri.port, do: "#{uri.host}:#{uri.port}", else: uri.host

    said = [
      {"host", host},
      {"upgrade", "websocket"},
      {"connection", "Upgrade"},
      {"sec-websocket-key", key},
      {"sec-websocket-version", "13"} | headers
    ]

    request = ["GET ", path, " HTTP/1.1\r\n", for({name, text} <- said, do: [name, ": ", text, "\r\n"]), "\r\n"]

    with :ok <- self.transport.send(self.socket, request),
         {:ok, head, rest} <- head(self, <<>>, until) do
      case head do
        {101, fields} ->
          if fields["sec-websocket-accept"] == Base.encode64(:crypto.hash(:sha, key <> @accept_guid)),
            do: {:ok, %{self | buffer: rest}},
            else: {:error, :no_websocket}

        {status, fields} ->
          {:error, {:refused, status, body(self, rest, fields, until)}}
      end
    end
  end

  defp head(self, so_far, until) do
    case :binary.split(so_far, "\r\n\r\n") do
      [head, rest] ->
        parsed(String.split(head, "\r\n"), rest)

      _ when byte_size(so_far) > @head_bytes_max ->
        {:error, :head_too_large}

      _ ->
        with {:ok, more} <- self.transport.recv(self.socket, 0, max(until - now(), 1)),
             do: head(self, so_far <> more, until)
    end
  end

  defp parsed([first | lines], rest) do
    with [_, status] <- Regex.run(~r/\AHTTP\/1\.1 (\d{3})/, first) do
      fields =
        for line <- lines,
            [name, text] <- [String.split(line, ":", parts: 2)],
            into: %{},
            do: {String.downcase(name), String.trim(text)}

      {:ok, {String.to_integer(status), fields}, rest}
    else
      _ -> {:error, :no_http}
    end
  end

  # Of a refusal as much as comes: it says why.
  defp body(self, so_far, fields, until) do
    wanted =
      case Integer.parse(fields["content-length"] || "") do
        {length, _} -> min(length, @body_bytes_max)
        :error -> 0
      end

    if byte_size(so_far) >= wanted do
      so_far
    else
      case self.transport.recv(self.socket, 0, max(until - now(), 1)) do
        {:ok, more} -> body(self, so_far <> more, fields, until)
        {:error, _} -> so_far
      end
    end
  end

  @impl true
  def hand_over(self, pid), do: self.transport.controlling_process(self.socket, pid)

  @impl true
  def begin(self) do
    owner = self()
    writer = spawn_link(fn -> write_on(self.transport, self.socket, owner) end)
    unless self.buffer == <<>>, do: Kernel.send(owner, {:mvgateway_rest, self.socket})
    if self.buffer == <<>>, do: active(self)
    %{self | writer: writer}
  end

  defp write_on(transport, socket, owner) do
    receive do
      {:write, what, bytes} ->
        Kernel.send(owner, {:mvgateway_written, socket, what, transport.send(socket, bytes)})
        write_on(transport, socket, owner)

      :stop ->
        :ok
    end
  end

  defp active(%{transport: :ssl, socket: socket}), do: :ssl.setopts(socket, active: :once)
  defp active(%{transport: :gen_tcp, socket: socket}), do: :inet.setopts(socket, active: :once)

  @impl true
  def handle(%{socket: socket} = self, message) do
    case message do
      {tag, ^socket, bytes} when tag in [:tcp, :ssl] ->
        taken(self, bytes)

      {:mvgateway_rest, ^socket} ->
        taken(self, <<>>)

      {tag, ^socket} when tag in [:tcp_closed, :ssl_closed] ->
        {:ok, self, [{:closed, nil, "the connection broke"}]}

      {tag, ^socket, reason} when tag in [:tcp_error, :ssl_error] ->
        {:ok, self, [{:closed, nil, "the connection broke: #{inspect(reason)}"}]}

      {:mvgateway_written, ^socket, what, :ok} ->
        {:ok, pong(%{self | writing: self.writing - 1}), if(what == :data, do: [:written], else: [])}

      {:mvgateway_written, ^socket, _, {:error, reason}} ->
        {:ok, self, [{:closed, nil, "nothing can be sent: #{inspect(reason)}"}]}

      _ ->
        :unknown
    end
  end

  defp taken(self, bytes) do
    {self, events} = frames(%{self | buffer: self.buffer <> bytes}, [:heard])
    unless match?([{:closed, _, _} | _], events), do: active(self)
    {:ok, pong(self), Enum.reverse(events)}
  end

  # RFC 6455, section 5.2; a server masks nothing.
  defp frames(%{buffer: buffer} = self, events) do
    case buffer do
      <<fin::1, 0::3, opcode::4, 0::1, 127::7, size::64, rest::binary>> ->
        frame(self, fin, opcode, size, rest, events)

      <<fin::1, 0::3, opcode::4, 0::1, 126::7, size::16, rest::binary>> ->
        frame(self, fin, opcode, size, rest, events)

      <<fin::1, 0::3, opcode::4, 0::1, size::7, rest::binary>> when size < 126 ->
        frame(self, fin, opcode, size, rest, events)

      <<_, 0::1, size::7, _::binary>> when size >= 126 ->
        {self, events}

      <<_, 0::1, _::7, _::binary>> ->
        {self, [{:closed, 1002, "what came is no WebSocket's frame"} | events]}

      <<_, 1::1, _::7, _::binary>> ->
        {self, [{:closed, 1002, "a server's frame was masked"} | events]}

      _ ->
        {self, events}
    end
  end

  defp frame(self, _, _, size, _, events) when size > @message_bytes_max, do: {self, [too_large() | events]}

  defp frame(self, fin, opcode, size, rest, events) do
    if byte_size(rest) >= size do
      after_it = binary_part(rest, size, byte_size(rest) - size)
      one(%{self | buffer: after_it}, fin, opcode, binary_part(rest, 0, size), events)
    else
      {self, events}
    end
  end

  defp one(self, 1, 2, payload, events), do: frames(self, [{:message, payload} | events])
  defp one(self, 0, opcode, payload, events) when opcode in [0, 2], do: part(self, payload, events, false)
  defp one(self, 1, 0, payload, events), do: part(self, payload, events, true)
  defp one(self, 1, 9, payload, events) when byte_size(payload) <= 125, do: frames(%{self | ponged: payload}, events)
  defp one(self, 1, 10, _, events), do: frames(self, events)
  defp one(self, 1, 8, <<code::16, reason::binary>>, events), do: {self, [{:closed, code, reason} | events]}
  defp one(self, 1, 8, _, events), do: {self, [{:closed, 1005, ""} | events]}

  defp one(self, _, opcode, _, events),
    do: {self, [{:closed, 1003, "a frame of opcode #{opcode} came; messages are binary"} | events]}

  defp part(%{size: size} = self, payload, events, _) when size + byte_size(payload) > @message_bytes_max,
    do: {self, [too_large() | events]}

  defp part(self, payload, events, false),
    do: frames(%{self | parts: [payload | self.parts], size: self.size + byte_size(payload)}, events)

  defp part(self, payload, events, true) do
    message = [payload | self.parts] |> Enum.reverse() |> IO.iodata_to_binary()
    frames(%{self | parts: [], size: 0}, [{:message, message} | events])
  end

  defp too_large, do: {:closed, 1009, "a message of more than #{@message_bytes_max} bytes came"}

  # The newest ping is answered once the writer has time.
  defp pong(%{ponged: payload, writing: 0} = self) when payload != nil,
    do: write(%{self | ponged: nil}, :beat, masked(10, payload))

  defp pong(self), do: self

  @impl true
  def send(self, messages), do: {:ok, write(self, :data, for(message <- messages, do: masked(2, message)))}

  @impl true
  def ping(%{writing: 0} = self), do: {:ok, write(self, :beat, masked(9, <<>>))}
  def ping(self), do: {:ok, self}

  defp write(self, what, bytes) do
    Kernel.send(self.writer, {:write, what, bytes})
    %{self | writing: self.writing + 1}
  end

  # RFC 6455, section 5.3: a client masks all it sends.
  defp masked(opcode, payload) do
    size = byte_size(payload)
    mask = :crypto.strong_rand_bytes(4)

    length =
      cond do
        size < 126 -> <<1::1, size::7>>
        size < 65_536 -> <<1::1, 126::7, size::16>>
        true -> <<1::1, 127::7, size::64>>
      end

    [
      <<1::1, 0::3, opcode::4>>,
      length,
      mask,
      :crypto.exor(payload, binary_part(:binary.copy(mask, (size >>> 2) + 1), 0, size))
    ]
  end

  @impl true
  def close(self) do
    if self.writer do
      Process.unlink(self.writer)
      Process.exit(self.writer, :kill)
    end

    self.transport.close(self.socket)
    :ok
  end

  defp now, do: System.monotonic_time(:millisecond)
end
