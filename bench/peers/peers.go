// Go, as the workloads of bench/ want it: the same cases, the same lines of output. --peer=goroutine: a goroutine for
// each task; --peer=channel: workers that read tasks from a buffered channel. A future is a channel of one value.
// Whoever submits is a goroutine as well: the scheduler switches to the task on the same thread.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

var quick bool
var perTask bool // goroutines, else workers on a channel

func countOf(full int) int {
	if quick {
		full /= 100
	}
	if full < 8 {
		full = 8
	}
	return full
}

func report(name, figure, unit string, value float64) {
	fmt.Printf("%s\t%s\t%s\t%.6g\n", name, figure, unit, value)
}

func reportSamples(name string, samples []int64, unit string, unitNs float64) {
	sum := 0.0
	for _, s := range samples {
		sum += float64(s)
	}
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	report(name, "mean", unit, sum/float64(len(samples))/unitNs)
	report(name, "p50", unit, float64(samples[len(samples)/2])/unitNs)
	report(name, "p99", unit, float64(samples[len(samples)*99/100])/unitNs)
}

func check(condition bool) {
	if !condition {
		fmt.Fprintln(os.Stderr, "a result is wrong")
		os.Exit(1)
	}
}

func cpu() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// The tiny task of a goroutine writes its argument where it belongs: there is no thread to keep a tally for.
var slots []int32

func verifySlots(count int) {
	for i := 0; i < count; i++ {
		check(slots[i] == int32(i)+1)
		slots[i] = 0
	}
}

// Workers on a channel keep a tally each.
type tally struct {
	count, sum int
	_          [112]byte
}

type task struct {
	value  int
	answer chan int // nil: nobody asks
}

type pool struct {
	tasks   chan task
	tallies []tally
	ended   sync.WaitGroup
}

func newPool(workers, waiting int) *pool {
	p := &pool{tasks: make(chan task, waiting), tallies: make([]tally, workers)}
	p.ended.Add(workers)
	for w := 0; w < workers; w++ {
		go func(own *tally) {
			for t := range p.tasks {
				if t.answer != nil {
					t.answer <- t.value * 3
					continue
				}
				own.count++
				own.sum += t.value
			}
			p.ended.Done()
		}(&p.tallies[w])
	}
	return p
}

// Ends it, which is how it is drained.
func (p *pool) close() {
	close(p.tasks)
	p.ended.Wait()
}

func (p *pool) verify(count int) {
	ran, sum := 0, 0
	for i := range p.tallies {
		ran += p.tallies[i].count
		sum += p.tallies[i].sum
	}
	check(ran == count && sum == count*(count-1)/2)
}

// Shares 0 .. count-1 out to goroutines, of which one is the caller. When they began.
func submitFrom(submitters, count int, body func(begin, end int)) time.Time {
	if submitters == 1 {
		began := time.Now()
		body(0, count)
		return began
	}
	start := make(chan bool)
	var ended sync.WaitGroup
	for i := 0; i < submitters; i++ {
		ended.Add(1)
		go func(begin, end int) {
			<-start
			body(begin, end)
			ended.Done()
		}(count*i/submitters, count*(i+1)/submitters)
	}
	time.Sleep(time.Millisecond)
	began := time.Now()
	close(start)
	ended.Wait()
	return began
}

func plain(name string, submitters, workers int) {
	count := countOf(1000000)
	if perTask {
		runtime.GOMAXPROCS(workers)
	} else {
		runtime.GOMAXPROCS(max(2, min(workers, runtime.NumCPU())))
	}
	slots = make([]int32, count)
	for pass := 0; pass < 3; pass++ { // the last one counts
		var began time.Time
		if perTask {
			var all sync.WaitGroup
			all.Add(count)
			began = submitFrom(submitters, count, func(begin, end int) {
				for i := begin; i < end; i++ {
					go func(i int) {
						slots[i] += int32(i) + 1
						all.Done()
					}(i)
				}
			})
			all.Wait()
		} else {
			p := newPool(workers, 1024)
			began = submitFrom(submitters, count, func(begin, end int) {
				for i := begin; i < end; i++ {
					p.tasks <- task{i, nil}
				}
			})
			p.close()
			p.verify(count)
		}
		ended := time.Since(began)
		if perTask {
			verifySlots(count)
		}
		if pass == 2 {
			report(name, "time", "ns/task", float64(ended.Nanoseconds())/float64(count))
		}
	}
}

// Gives the future of one task.
func submitOne(p *pool, value int) chan int {
	answer := make(chan int, 1)
	if perTask {
		go func() { answer <- value * 3 }()
	} else {
		p.tasks <- task{value, answer}
	}
	return answer
}

func futures(name string, submitters int) {
	count := countOf(1000000)
	p := newPool(2, 1024)
	answers := make([]chan int, count)
	for pass := 0; pass < 3; pass++ {
		var lock sync.Mutex
		total := 0
		began := submitFrom(submitters, count, func(begin, end int) {
			sum := 0
			for i := begin; i < end; i++ {
				answers[i] = submitOne(p, i)
			}
			for i := begin; i < end; i++ {
				sum += <-answers[i]
				answers[i] = nil
			}
			lock.Lock()
			total += sum
			lock.Unlock()
		})
		ended := time.Since(began)
		check(total == count*(count-1)/2*3)
		if pass == 2 {
			report(name, "time", "ns/task", float64(ended.Nanoseconds())/float64(count))
		}
	}
	p.close()
}

func roundtrip(name string, pause time.Duration) {
	count := countOf(200000)
	if pause > 0 {
		count = countOf(5000)
	}
	warm := count / 20
	samples := make([]int64, count)
	p := newPool(2, 1024)
	began := int64(0)
	for i := 0; i < warm+count; i++ {
		if i == warm {
			began = cpu()
		}
		if pause > 0 {
			time.Sleep(pause)
		}
		start := time.Now()
		check(<-submitOne(p, i) == i*3)
		if i >= warm {
			samples[i-warm] = time.Since(start).Nanoseconds()
		}
	}
	used := cpu() - began
	reportSamples(name, samples, "ns", 1)
	report(name, "cpu", "ns/trip", float64(used)/float64(count))
	p.close()
}

// Each parent starts its children and awaits their channels.
func treeTask(number, count, fanOut int, answer chan int) {
	first := number*fanOut + 1
	children := count - first
	if children > fanOut {
		children = fanOut
	}
	sum := number
	if children > 0 {
		answers := make([]chan int, children)
		for i := range answers {
			answers[i] = make(chan int, 1)
			go treeTask(first+i, count, fanOut, answers[i])
		}
		for _, child := range answers {
			sum += <-child
		}
	}
	answer <- sum
}

func tree(name string, fanOut int) {
	count := countOf(1000000)
	for pass := 0; pass < 3; pass++ {
		answer := make(chan int, 1)
		began := time.Now()
		go treeTask(0, count, fanOut, answer)
		sum := <-answer
		ended := time.Since(began)
		check(sum == count*(count-1)/2)
		if pass == 2 {
			report(name, "time", "ns/task", float64(ended.Nanoseconds())/float64(count))
		}
	}
}

func completed(name string) {
	count := countOf(100000)
	p := newPool(2, 1024)
	for pass := 0; pass < 3; pass++ {
		done := make(chan int, count) // all tasks answer into one channel, in the order of completion
		began := time.Now()
		for i := 0; i < count; i++ {
			if perTask {
				go func(value int) { done <- value * 3 }(i)
			} else {
				p.tasks <- task{i, done}
			}
		}
		sum := 0
		for i := 0; i < count; i++ {
			sum += <-done
		}
		ended := time.Since(began)
		check(sum == count*(count-1)/2*3)
		if pass == 2 {
			report(name, "time", "ns/future", float64(ended.Nanoseconds())/float64(count))
		}
	}
	p.close()
}

func resident() int {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	check(err == nil)
	kib := 0
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "Rss:") {
			fmt.Sscanf(line, "Rss: %d kB", &kib)
		}
	}
	check(kib > 0)
	return kib * 1024
}

func memory(name string, withFutures bool) {
	count := countOf(1000000)
	gate := make(chan bool)
	p := &pool{}
	answers := make([]chan int, count)
	for i := range answers {
		answers[i] = nil
	}
	slots = make([]int32, count)
	for i := range slots {
		slots[i] = 0
	}
	var all sync.WaitGroup
	all.Add(count)
	if !perTask { // the channel is the queue, and it is made here
		runtime.GC()
	}
	before := resident()
	if perTask {
		for i := 0; i < count; i++ {
			answer := (chan int)(nil)
			if withFutures {
				answer = make(chan int, 1)
				answers[i] = answer
			}
			go func(i int) {
				<-gate
				if answer != nil {
					answer <- i * 3
				}
				slots[i] += int32(i) + 1
				all.Done()
			}(i)
		}
	} else {
		p.tasks = make(chan task, count)
		for i := 0; i < count; i++ {
			if withFutures {
				answers[i] = make(chan int, 1)
			}
			p.tasks <- task{i, answers[i]}
		}
	}
	report(name, "resident", "bytes/task", float64(resident()-before)/float64(count))
	close(gate)
	if !perTask {
		close(p.tasks)
		sum := 0
		for t := range p.tasks {
			if t.answer != nil {
				t.answer <- t.value * 3
			}
			sum += t.value
		}
		check(sum == count*(count-1)/2)
	} else {
		all.Wait()
		verifySlots(count)
	}
	if withFutures {
		sum := 0
		for _, answer := range answers {
			sum += <-answer
		}
		check(sum == count*(count-1)/2*3)
	}
}

func burst(name string) {
	bursts := 1000
	if quick {
		bursts = 20
	}
	samples := make([]int64, bursts)
	slots = make([]int32, 1000)
	p := newPool(2, 1024)
	var all sync.WaitGroup
	done := make(chan int, 1000)
	once := func() {
		if perTask {
			all.Add(1000)
			for i := 0; i < 1000; i++ {
				go func(i int) {
					slots[i] += int32(i) + 1
					all.Done()
				}(i)
			}
			all.Wait()
			verifySlots(1000)
			return
		}
		sum := 0
		for i := 0; i < 1000; i++ {
			p.tasks <- task{i, done}
		}
		for i := 0; i < 1000; i++ {
			sum += <-done
		}
		check(sum == 1498500)
	}
	for i := 0; i < 50; i++ {
		once()
	}
	began := cpu()
	next := time.Now()
	for i := range samples {
		next = next.Add(2 * time.Millisecond)
		time.Sleep(time.Until(next))
		start := time.Now()
		once()
		samples[i] = time.Since(start).Nanoseconds()
	}
	used := cpu() - began
	reportSamples(name, samples, "us", 1000)
	report(name, "cpu", "s", float64(used)/1e9)
	p.close()
}

func fib(n int) int {
	if n < 2 {
		return n
	}
	left := make(chan int, 1)
	go func() { left <- fib(n - 1) }()
	right := fib(n - 2)
	return <-left + right
}

func forkJoin(name string, workers int) {
	n, sum, next := 30, 0, 1
	if quick {
		n = 18
	}
	for i := 0; i < n; i++ {
		sum, next = next, sum+next
	}
	runtime.GOMAXPROCS(workers)
	check(fib(n) == sum)
	began := time.Now()
	check(fib(n) == sum)
	ended := time.Since(began)
	report(name, "time", "ns/spawn", float64(ended.Nanoseconds())/float64(next-1))
}

func min(a, b int) int {
	if a < b {
		return a
	}
	return b
}
func max(a, b int) int { return a + b - min(a, b) }

type entry struct {
	name      string
	goroutine bool // both can, or only goroutines
	run       func(name string)
}

func main() {
	cases := []entry{
		{"plain/1", false, func(n string) { plain(n, 1, 2) }},
		{"plain/4", false, func(n string) { plain(n, 4, 2) }},
		{"plain/1-workers-1", false, func(n string) { plain(n, 1, 1) }},
		{"plain/1-workers-8", false, func(n string) { plain(n, 1, 8) }},
		{"plain/1-workers-64", false, func(n string) { plain(n, 1, 64) }},
		{"futures/1", false, func(n string) { futures(n, 1) }},
		{"futures/4", false, func(n string) { futures(n, 4) }},
		{"tree/2", true, func(n string) { tree(n, 2) }},
		{"tree/10", true, func(n string) { tree(n, 10) }},
		{"roundtrip/free", false, func(n string) { roundtrip(n, 0) }},
		{"roundtrip/pinned", false, func(n string) { roundtrip(n, 0) }}, // pinned by whoever starts it
		{"roundtrip/paused", false, func(n string) { roundtrip(n, 200*time.Microsecond) }},
		{"forkjoin/2", true, func(n string) { forkJoin(n, 2) }},
		{"forkjoin/1", true, func(n string) { forkJoin(n, 1) }},
		{"completed/100000", false, completed},
		{"memory/plain", false, func(n string) { memory(n, false) }},
		{"memory/futures", false, func(n string) { memory(n, true) }},
		{"burst/1000", false, burst},
	}
	list := false
	var flags, words []string
	for _, word := range os.Args[1:] {
		if !strings.HasPrefix(word, "-") {
			words = append(words, word)
			continue
		}
		flags = append(flags, word)
		list = list || word == "--list"
		quick = quick || word == "--quick"
		perTask = perTask || word == "--peer=goroutine"
	}
	var wanted []entry
	for _, c := range cases {
		if c.goroutine && !perTask {
			continue
		}
		found := len(words) == 0
		for _, word := range words {
			found = found || c.name == word || strings.HasPrefix(c.name, word+"/")
		}
		if found {
			wanted = append(wanted, c)
		}
	}
	if list {
		for _, c := range wanted {
			fmt.Printf("%s\t%s\n", c.name, c.name)
		}
		return
	}
	if len(wanted) == 0 {
		os.Exit(77)
	}
	if len(wanted) == 1 {
		wanted[0].run(wanted[0].name)
		return
	}
	for _, c := range wanted { // of several, each in a process of its own
		command := exec.Command(os.Args[0], append(append([]string{}, flags...), c.name)...)
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		check(command.Run() == nil)
	}
}
