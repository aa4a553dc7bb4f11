defmodule MVGateway.MixProject do
  use Mix.Project

  def project do
    [
      app: :mvgateway,
      version: "0.1.0",
      elixir: "~> 1.14",
      description: "Worlds of mvgateway: follow them, publish them, and reach their entities and recordings",
      start_permanent: Mix.env() == :prod,
      package: package(),
      deps: []
    ]
  end

  # What is used where it is there (Req, Finch, Mint.WebSocket, JOSE, :telemetry, Phoenix.PubSub) is asked for at run time, so none is a dependency.
  def application, do: [extra_applications: [:logger, :crypto, :public_key, :ssl, :inets]]

  defp package do
    [licenses: ["MIT"], links: %{}, files: ~w(lib mix.exs README.md)]
  end
end
