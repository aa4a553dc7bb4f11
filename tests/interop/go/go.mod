// The module's root. What it is built with stands in draft02.mod and current.mod: go build -modfile=....mod -tags ....
module interop

go 1.24
