defmodule MVGateway.JSON do
  @moduledoc """
  JSON (RFC 8259), as the protocol needs it: for Elixir 1.14 has none. Objects are maps of strings; texts are made in ASCII.
  """

  @depth_max 64

  @doc "`{:ok, term}` or `:error`. With `ordered: true` an object is `{:object, pairs}`, in their order."
  def decode(text, opts \\ []) do
    {value, rest} = value(blank(text), if(opts[:ordered], do: :ordered, else: :maps), @depth_max)
    if blank(rest) == "", do: {:ok, value}, else: :error
  catch
    :malformed -> :error
  end

  @doc "Text of a term: nil, booleans, numbers, strings, atoms, lists, maps, and lists of pairs as objects in their order."
  def encode(term), do: term |> json() |> IO.iodata_to_binary()

  defp json(nil), do: "null"
  defp json(value) when is_boolean(value), do: to_string(value)
  defp json(value) when is_integer(value), do: Integer.to_string(value)
  defp json(value) when is_float(value), do: Float.to_string(value)
  defp json(value) when is_binary(value), do: [?", for(<<point::utf8 <- value>>, do: escaped(point)), ?"]
  defp json(value) when is_atom(value), do: json(Atom.to_string(value))
  defp json({:object, pairs}), do: object(pairs)
  defp json([{_, _} | _] = pairs), do: object(pairs)
  defp json(values) when is_list(values), do: [?[, values |> Enum.map(&json/1) |> Enum.intersperse(?,), ?]]
  defp json(%{} = map), do: object(Map.to_list(map))

  defp object(pairs) do
    members = for {name, value} <- pairs, do: [json(to_string(name)), ?:, json(value)]
    [?{, Enum.intersperse(members, ?,), ?}]
  end

  defp escaped(?"), do: "\\\""
  defp escaped(?\\), do: "\\\\"
  defp escaped(?\n), do: "\\n"
  defp escaped(?\r), do: "\\r"
  defp escaped(?\t), do: "\\t"
  defp escaped(point) when point in 0x20..0x7E, do: point
  defp escaped(point) when point < 0x10000, do: unit(point)
  defp escaped(point), do: [unit(0xD800 + div(point - 0x10000, 1024)), unit(0xDC00 + rem(point - 0x10000, 1024))]

  defp unit(number), do: ["\\u", number |> Integer.to_string(16) |> String.downcase() |> String.pad_leading(4, "0")]

  defp blank(<<byte, rest::binary>>) when byte in [?\s, ?\t, ?\n, ?\r], do: blank(rest)
  defp blank(rest), do: rest

  defp value(_, _, 0), do: throw(:malformed)
  defp value(<<?", rest::binary>>, _, _), do: string(rest, [])
  defp value(<<?{, rest::binary>>, as, depth), do: members(blank(rest), as, depth - 1, [])
  defp value(<<?[, rest::binary>>, as, depth), do: items(blank(rest), as, depth - 1, [])
  defp value(<<"true", rest::binary>>, _, _), do: {true, rest}
  defp value(<<"false", rest::binary>>, _, _), do: {false, rest}
  defp value(<<"null", rest::binary>>, _, _), do: {nil, rest}
  defp value(text, _, _), do: number(text)

  defp members(<<?}, rest::binary>>, as, _, []), do: {made([], as), rest}

  defp members(<<?", rest::binary>>, as, depth, pairs) do
    {name, rest} = string(rest, [])

    with <<?:, rest::binary>> <- blank(rest),
         {value, rest} = value(blank(rest), as, depth),
         pairs = [{name, value} | pairs],
         <<byte, rest::binary>> when byte in [?,, ?}] <- blank(rest) do
      if byte == ?}, do: {made(pairs, as), rest}, else: members(blank(rest), as, depth, pairs)
    else
      _ -> throw(:malformed)
    end
  end

  defp members(_, _, _, _), do: throw(:malformed)

  defp made(pairs, :maps), do: pairs |> Enum.reverse() |> Map.new()
  defp made(pairs, :ordered), do: {:object, Enum.reverse(pairs)}

  defp items(<<?], rest::binary>>, _, _, []), do: {[], rest}

  defp items(text, as, depth, values) do
    {value, rest} = value(text, as, depth)

    case blank(rest) do
      <<?,, rest::binary>> -> items(blank(rest), as, depth, [value | values])
      <<?], rest::binary>> -> {Enum.reverse([value | values]), rest}
      _ -> throw(:malformed)
    end
  end

  defp string(<<?", rest::binary>>, parts), do: {parts |> Enum.reverse() |> IO.iodata_to_binary(), rest}
  defp string(<<?\\, ?u, rest::binary>>, parts), do: escape(rest, parts)

  defp string(<<?\\, byte, rest::binary>>, parts) do
    case byte do
      ?n -> string(rest, [?\n | parts])
      ?t -> string(rest, [?\t | parts])
      ?r -> string(rest, [?\r | parts])
      ?b -> string(rest, [?\b | parts])
      ?f -> string(rest, [?\f | parts])
      plain when plain in [?", ?\\, ?/] -> string(rest, [plain | parts])
      _ -> throw(:malformed)
    end
  end

  defp string(<<point::utf8, rest::binary>>, parts) when point >= 0x20, do: string(rest, [<<point::utf8>> | parts])
  defp string(_, _), do: throw(:malformed)

  # A pair of surrogates is one character (RFC 8259, section 7); a lone one stands for none.
  defp escape(<<high::binary-size(4), ?\\, ?u, low::binary-size(4), rest::binary>> = text, parts) do
    {first, second} = {hex(high), hex(low)}

    if first in 0xD800..0xDBFF and second in 0xDC00..0xDFFF do
      point = 0x10000 + (first - 0xD800) * 1024 + second - 0xDC00
      string(rest, [<<point::utf8>> | parts])
    else
      lone(text, parts)
    end
  end

  defp escape(text, parts), do: lone(text, parts)

  defp lone(<<four::binary-size(4), rest::binary>>, parts) do
    case hex(four) do
      point when point in 0xD800..0xDFFF -> string(rest, ["\uFFFD" | parts])
      point -> string(rest, [<<point::utf8>> | parts])
    end
  end

  defp lone(_, _), do: throw(:malformed)

  defp hex(four) do
    case Integer.parse(four, 16) do
      {number, ""} when number >= 0 -> number
      _ -> throw(:malformed)
    end
  end

  defp number(text) do
    case Regex.run(~r/\A-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/, text) do
      [all] -> {String.to_integer(all), after_it(text, all)}
      [all | _] -> {float(all), after_it(text, all)}
      nil -> throw(:malformed)
    end
  end

  defp after_it(text, all), do: binary_part(text, byte_size(all), byte_size(text) - byte_size(all))

  defp float(text) do
    case Float.parse(text) do
      {number, ""} -> number
      _ -> throw(:malformed)
    end
  rescue
    ArgumentError -> throw(:malformed)
  end
end
