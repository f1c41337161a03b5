// Go ignores preloads, and when built without cgo it resolves names itself.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	request, err := http.NewRequest("POST", "https://fal.run/"+os.Args[1], bytes.NewBufferString(os.Args[2]))
	check(err)
	request.Header.Set("Authorization", "Key of:mine")
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	check(err)
	if answer.ProtoMajor != 2 {
		check(fmt.Errorf("not HTTP/2, which net/http takes where a server speaks it: %s", answer.Proto))
	}
	var output struct{ Images []struct{ Url string } }
	check(json.NewDecoder(answer.Body).Decode(&output))
	image, err := http.Get(output.Images[0].Url)
	check(err)
	if image.Header.Get("Content-Type") != "image/jpeg" {
		check(fmt.Errorf("no image: %s", image.Status))
	}
	fmt.Println("OK")
}
