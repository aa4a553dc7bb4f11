defmodule MVGateway.Telemetry do
  @moduledoc false
  # Events [:mvgateway | name] where :telemetry is loaded.

  def execute(name, measurements, metadata) do
    if Code.ensure_loaded?(:telemetry),
      do: :erlang.apply(:telemetry, :execute, [[:mvgateway | name], measurements, metadata])

    :ok
  end
end
