defmodule MVGateway.JSONTest do
  use ExUnit.Case, async: true

  alias MVGateway.JSON

  test "what is made is read again" do
    for term <- [nil, true, 0, -7, 1.5, "", "ü \u{1F600} \" \\ \n \u0001", [], [1, [2]], %{}, %{"a" => %{"b" => [nil]}}] do
      assert JSON.decode(JSON.encode(term)) == {:ok, term}
    end
  end

  test "texts are as RFC 8259 has them" do
    assert JSON.decode(~S( {"a" : [1e2, -0.5, "\u00fc\ud83d\ude00\/"] , "b":{} } )) ==
             {:ok, %{"a" => [100.0, -0.5, "ü\u{1F600}/"], "b" => %{}}}

    assert JSON.decode(~S("\ud800")) == {:ok, "\uFFFD"}
  end

  test "what is none is refused, whatever it is" do
    deep = String.duplicate("[", 100_000)

    for text <- [
          "",
          "{",
          "[1,]",
          "{\"a\":1,}",
          "01",
          "1.",
          "nul",
          "\"\n\"",
          "\"\\x\"",
          "\"\\u12\"",
          "[1] 2",
          "\xFF",
          "\"\xFF\"",
          "+1",
          "{1:2}",
          "1e999",
          deep
        ] do
      assert JSON.decode(text) == :error, inspect(String.slice(text, 0, 20))
    end
  end
end
