defmodule MVGateway.TokenTest do
  use ExUnit.Case, async: true

  alias MVGateway.{JSON, Token}

  defp encoded(bytes), do: Base.url_encode64(bytes, padding: false)

  defp key("EdDSA") do
    {public, private} = :crypto.generate_key(:eddsa, :ed25519)
    {%{"kty" => "OKP", "crv" => "Ed25519", "d" => encoded(private), "x" => encoded(public), "kid" => "one"}, public}
  end

  defp key("ES256") do
    {<<4, x::binary-size(32), y::binary-size(32)>> = public, private} = :crypto.generate_key(:ecdh, :secp256r1)
    private = :binary.copy(<<0>>, 32 - byte_size(private)) <> private

    {%{"kty" => "EC", "crv" => "P-256", "d" => encoded(private), "x" => encoded(x), "y" => encoded(y), "kid" => "two"},
     public}
  end

  defp parts(token) do
    [header, claims, signature] = String.split(token, ".")
    {:ok, read} = JSON.decode(Base.url_decode64!(header, padding: false))
    {:ok, told} = JSON.decode(Base.url_decode64!(claims, padding: false))
    {header <> "." <> claims, read, told, Base.url_decode64!(signature, padding: false)}
  end

  for algorithm <- ["EdDSA", "ES256"] do
    test "#{algorithm}: the signature is of what it signs, by JOSE and by Erlang's crypto" do
      {jwk, public} = key(unquote(algorithm))
      claims = %{"sub" => "ann", "exp" => System.os_time(:second) + 60, "mv" => %{"sub" => ["plaza-*"]}}
      header = %{"alg" => Token.algorithm(jwk), "kid" => jwk["kid"]}

      for token <- [Token.sign(jwk, claims), Token.by_crypto(jwk, header, claims)] do
        {said, read, told, signature} = parts(token)
        assert {read["alg"], read["kid"], told} == {unquote(algorithm), jwk["kid"], claims}

        case unquote(algorithm) do
          "EdDSA" ->
            assert :crypto.verify(:eddsa, :none, said, signature, [public, :ed25519])

          "ES256" ->
            <<r::unsigned-size(256), s::unsigned-size(256)>> = signature
            der = :public_key.der_encode(:"ECDSA-Sig-Value", {:"ECDSA-Sig-Value", r, s})
            assert :crypto.verify(:ecdsa, :sha256, said, der, [public, :secp256r1])
        end
      end
    end
  end

  test "a token ends, and is renewed before it does" do
    {jwk, _} = key("EdDSA")
    token = Token.sign(jwk, %{}, 400)
    assert_in_delta Token.expiry(token), System.os_time(:second) + 400, 5
    assert Token.renew_in(token) in 270_000..300_000
    assert Token.renew_in("opaque") == :infinity
  end

  test "a key that no gateway takes is refused by its name" do
    for jwk <- [
          %{"kty" => "oct", "k" => "c2VjcmV0", "kid" => "s"},
          %{"kty" => "RSA"},
          %{},
          "no JSON",
          %{"kty" => "OKP", "crv" => "Ed25519", "kid" => "public"}
        ] do
      assert_raise ArgumentError, fn -> Token.sign(jwk, %{}) end
    end
  end
end
