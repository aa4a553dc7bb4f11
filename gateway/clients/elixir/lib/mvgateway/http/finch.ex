defmodule MVGateway.HTTP.Finch do
  @moduledoc "A Finch pool of yours: `http: {MVGateway.HTTP.Finch, name: MyApp.Finch}`. Whom it trusts, its pool says (`conn_opts: [transport_opts: …]`)."
  @behaviour MVGateway.HTTP

  @impl true
  def request(method, url, headers, body, opts) do
    built = apply(Finch, :build, [method, url, headers, body])

    case apply(Finch, :request, [built, opts[:name], [receive_timeout: opts[:timeout_ms]]]) do
      {:ok, answer} -> sized(answer, opts[:body_bytes_max])
      {:error, reason} -> {:error, reason}
    end
  end

  defp sized(%{body: body}, bytes_max) when byte_size(body) > bytes_max, do: {:error, :answer_too_large}

  defp sized(%{status: status, headers: headers, body: body}, _),
    do: {:ok, %{status: status, headers: headers, body: body}}
end
