[inputs: ["mix.exs", "{lib,test,example}/**/*.{ex,exs}"], line_length: 120]
