// Go's channels for channels.c: `channels_go CASE COUNT` prints the ns an item, or a trip.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

func check(right bool) {
	if !right {
		fmt.Fprintln(os.Stderr, "a result is wrong")
		os.Exit(1)
	}
}

func stream(pairs, count int) float64 {
	items := make(chan uint64, 1024)
	sums := make(chan uint64)
	began := time.Now()
	for p := 0; p < pairs; p++ {
		go func() {
			for i := 1; i <= count; i++ {
				items <- uint64(i)
			}
		}()
		go func() {
			sum := uint64(0)
			for i := 0; i < count; i++ {
				sum += <-items
			}
			sums <- sum
		}()
	}
	sum := uint64(0)
	for p := 0; p < pairs; p++ {
		sum += <-sums
	}
	took := time.Since(began)
	check(sum == uint64(pairs)*(uint64(count)*uint64(count+1)/2))
	return float64(took.Nanoseconds()) / float64(pairs*count)
}

func trips(count int) float64 {
	there, back := make(chan uint64), make(chan uint64)
	go func() {
		for i := 0; i < count; i++ {
			back <- <-there
		}
	}()
	began := time.Now()
	for i := 1; i <= count; i++ {
		there <- uint64(i)
		check(<-back == uint64(i))
	}
	return float64(time.Since(began).Nanoseconds()) / float64(count)
}

func main() {
	count, err := strconv.Atoi(os.Args[2])
	check(err == nil)
	switch os.Args[1] {
	case "channels/1-1":
		fmt.Println(stream(1, count))
	case "channels/2-2":
		fmt.Println(stream(2, count))
	case "channels/ping-pong":
		fmt.Println(trips(count))
	default:
		os.Exit(77) // not there
	}
}
