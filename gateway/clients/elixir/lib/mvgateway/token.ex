defmodule MVGateway.Token do
  @moduledoc """
  Tokens (docs/ACCESS.md): when they end, when to renew them, and how a backend signs them with a private JWK that
  `mvgateway token keygen` wrote.

      key = MVGateway.Token.key!(File.read!("keys/studio.private.json"))
      MVGateway.Token.sign(key, %{"sub" => "ann", "mv" => %{"sub" => ["plaza-*"]}}, 600)
  """

  @margin_s 300
  @lifetime_s_max 86_400
  @p256_bytes 32

  @doc "When a token ends by its own word (RFC 7519, `exp`), Unix seconds; nil where it does not say."
  def expiry(token) do
    with [_, claims, _] <- String.split(token, "."),
         {:ok, json} <- Base.url_decode64(claims, padding: false),
         {:ok, %{"exp" => exp}} when is_number(exp) <- MVGateway.JSON.decode(json) do
      exp
    else
      _ -> nil
    end
  end

  @doc "So many seconds before its end a token that has `left_s` left is renewed: a quarter of them, at most 300."
  def margin_s(left_s), do: min(max(left_s, 0) / 4, @margin_s)

  @doc "In how many milliseconds a token should be renewed; `:infinity` where it has no end."
  def renew_in(token) do
    case expiry(token) do
      nil ->
        :infinity

      exp ->
        left = max(exp - System.os_time(:millisecond) / 1000, 0)
        trunc((left - margin_s(left)) * 1000)
    end
  end

  @doc "A private key from its JWK, JSON or a map: Ed25519 (`OKP`) or P-256 (`EC`). Raises ArgumentError for any other."
  def key!(jwk) when is_binary(jwk) do
    case MVGateway.JSON.decode(jwk) do
      {:ok, %{} = key} -> key!(key)
      _ -> raise ArgumentError, "a private key is a JWK: a JSON object, as `mvgateway token keygen` writes"
    end
  end

  def key!(%{"kty" => kty, "crv" => crv, "d" => d, "kid" => kid} = jwk)
      when {kty, crv} in [{"OKP", "Ed25519"}, {"EC", "P-256"}] and is_binary(d) and is_binary(kid),
      do: jwk

  def key!(%{"kty" => kty} = jwk) do
    raise ArgumentError,
          "a key of kty #{kty}, crv #{inspect(jwk["crv"])} signs no token that a gateway takes: it is to be a private " <>
            "Ed25519 or P-256 key with a kid, as `mvgateway token keygen` makes; shared secrets (HS256) are refused by every gateway"
  end

  def key!(_), do: raise(ArgumentError, "a private key is a JWK with kty, crv, d and kid")

  @doc """
  A token of these claims that ends in `seconds` (1 to 86,400). JOSE signs it where it is there, Erlang's own crypto where not.
  """
  def sign(jwk, claims, seconds \\ 600) when seconds in 1..@lifetime_s_max do
    key = key!(jwk)
    claims = Map.put_new(claims, "exp", System.os_time(:second) + seconds)
    header = %{"alg" => algorithm(key), "kid" => key["kid"], "typ" => "JWT"}
    if Code.ensure_loaded?(:jose_jwt), do: by_jose(key, header, claims), else: by_crypto(key, header, claims)
  end

  @doc "As `sign/3`, with Erlang's own crypto."
  def by_crypto(key, header, claims) do
    said = encoded(MVGateway.JSON.encode(header)) <> "." <> encoded(MVGateway.JSON.encode(claims))
    said <> "." <> encoded(signature(key, said))
  end

  @doc "What signs: `EdDSA` (RFC 8037) or `ES256` (RFC 7518, section 3.4)."
  def algorithm(%{"kty" => "OKP"}), do: "EdDSA"
  def algorithm(%{"kty" => "EC"}), do: "ES256"

  defp by_jose(key, header, claims) do
    signed = :erlang.apply(:jose_jwt, :sign, [:erlang.apply(:jose_jwk, :from_map, [key]), header, claims])
    {_, token} = :erlang.apply(:jose_jws, :compact, [signed])
    token
  end

  defp signature(%{"kty" => "OKP"} = key, said), do: :crypto.sign(:eddsa, :none, said, [secret(key), :ed25519])

  defp signature(%{"kty" => "EC"} = key, said) do
    der = :crypto.sign(:ecdsa, :sha256, said, [secret(key), :secp256r1])
    {_, r, s} = :public_key.der_decode(:"ECDSA-Sig-Value", der)
    <<r::unsigned-size(@p256_bytes)-unit(8), s::unsigned-size(@p256_bytes)-unit(8)>>
  end

  defp secret(%{"d" => d}) do
    case Base.url_decode64(d, padding: false) do
      {:ok, bytes} -> bytes
      :error -> raise ArgumentError, "the JWK's member d is no base64url"
    end
  end

  defp encoded(bytes), do: Base.url_encode64(bytes, padding: false)
end
