defmodule MVGateway.Refusal do
  @moduledoc false
  # What comes after a session that ended so: another one, or none (docs/FRAMES.md, "Opening a session"). Pure.

  @by_token ["unauthorized", "grant_refused", "grant_ended", "forbidden"]
  @by_time ~w(conflict overloaded too_many crowded shutting_down world_deleted store store_unavailable store_damaged transfer_failed too_early no_token)
  @broke ["", "error", "too_slow", "bye"]
  @close_codes %{
    4001 => "error",
    4002 => "shutting_down",
    4003 => "taken_over",
    4004 => "publisher_present",
    4005 => "malformed",
    4006 => "too_slow",
    4007 => "world_held",
    4008 => "grant_ended",
    4009 => "unauthorized",
    1009 => "too_large"
  }

  @doc "What a close code says where its message was not seen; \"\" where it says nothing."
  def of_close(code), do: Map.get(@close_codes, code, "")

  @doc "What a `bye` means: {code, detail}."
  def of_bye(%{"reason" => reason}) when reason in ["taken_over", "takeover", "reconnected"],
    do: {"taken_over", "another publisher took the world over"}

  def of_bye(%{"reason" => reason}) when reason in ["expired", "revoked"],
    do: {"grant_ended", "the gateway ended this session: its grant is #{reason}"}

  def of_bye(%{"reason" => "moved"} = bye), do: {"world_held", "the world has its home at #{bye["url"]}"}
  def of_bye(bye), do: {"bye", "the gateway said bye: #{bye["reason"]}"}

  @doc "`:again`, `:again_with_token` (a fresh one, at once) or `:final`."
  def judge(code, role, fresh_token?) do
    cond do
      code in @by_token and fresh_token? -> :again_with_token
      code in @broke or code in @by_time -> :again
      code == "world_held" and role != :publish -> :again
      true -> :final
    end
  end
end
