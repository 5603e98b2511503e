module example.com/go-extension

go 1.21
