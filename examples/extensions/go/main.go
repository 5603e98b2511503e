// An external extension in Go, with the standard library alone: it counts what the Telemetry API sends it.
// Written from AWS's pages "Using the Lambda Extensions API" and "Using the Lambda Telemetry API".
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
)

type object = map[string]any

var (
	name   = filepath.Base(os.Args[0]) // must be the file's full name
	base   = "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API")
	client = &http.Client{Transport: &http.Transport{Proxy: nil}} // no time limit: /event/next may wait for hours
	lock   sync.Mutex
	counts = map[string]int{}
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run() error {
	// All addresses: Lambda does not reach 127.0.0.1. Any port that is free.
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		return err
	}
	go http.Serve(listener, http.HandlerFunc(receive))

	headers, _, err := call("POST", "/2020-01-01/extension/register", "Lambda-Extension-Name", name,
		object{"events": []string{"INVOKE", "SHUTDOWN"}})
	if err != nil {
		return err
	}
	id := headers.Get("Lambda-Extension-Identifier")
	_, _, err = call("PUT", "/2022-07-01/telemetry", "Lambda-Extension-Identifier", id, object{
		"schemaVersion": "2022-12-13",
		"types":         []string{"platform", "function"},
		"buffering":     object{"maxItems": 1000, "maxBytes": 262144, "timeoutMs": 25},
		"destination": object{
			"protocol": "HTTP",
			"URI":      fmt.Sprintf("http://sandbox.localdomain:%d", listener.Addr().(*net.TCPAddr).Port),
		},
	})
	if err != nil {
		return err
	}
	fmt.Printf("%s: registered\n", name)
	for {
		_, body, err := call("GET", "/2020-01-01/extension/event/next", "Lambda-Extension-Identifier", id, nil)
		if err != nil {
			return err
		}
		var event struct{ EventType, RequestId, ShutdownReason string }
		if err := json.Unmarshal(body, &event); err != nil {
			return err
		}
		if event.EventType == "SHUTDOWN" {
			lock.Lock()
			summary, _ := json.Marshal(counts)
			fmt.Printf("%s: %s, %s\n", name, event.ShutdownReason, summary)
			return nil
		}
		fmt.Printf("%s: invoked %s\n", name, event.RequestId)
	}
}

// receive acknowledges whatever comes: an error would have the batch sent again.
func receive(_ http.ResponseWriter, request *http.Request) {
	var batch []struct{ Type string }
	if err := json.NewDecoder(request.Body).Decode(&batch); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	lock.Lock()
	defer lock.Unlock()
	for _, record := range batch {
		counts[record.Type]++
	}
}

func call(method, path, header, value string, body any) (http.Header, []byte, error) {
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, nil, err
		}
		sent = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, base+path, sent)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set(header, value)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s was answered %d: %s", path, response.StatusCode, answer)
	}
	return response.Header, answer, err
}
