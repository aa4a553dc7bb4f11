package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// session is what both versions of the library offer.
type session interface {
	receiveDatagram(context.Context) ([]byte, error)
	sendDatagram([]byte) error
	acceptStream(context.Context) (io.Reader, error)
	openStream(context.Context) (io.WriteCloser, error)
	close()
}

func pinned(hash string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true,
		NextProtos:         []string{"h3"},
		VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
			sum := sha256.Sum256(raw[0])
			if hex.EncodeToString(sum[:]) != hash {
				return errors.New("another certificate")
			}
			return nil
		},
	}
}

// seen is what a reader tells at its end.
type seen struct {
	Messages  int    `json:"messages"`
	Datagrams int    `json:"datagrams"`
	Begun     int    `json:"streams_begun"`
	Ended     int    `json:"streams_ended"`
	Reset     int    `json:"streams_reset"`
	Complete  int    `json:"complete"`
	Welcome   bool   `json:"welcome"`
	Resync    bool   `json:"resync"`
	Error     string `json:"error"`
}

type reader struct {
	mu    sync.Mutex
	seen  seen
	state map[uint32]Record
	count int
	last  uint32
	whole map[uint32]int
	says  bool // whole TICK, of each
	done  chan struct{}
	once  sync.Once
}

func (r *reader) take(m []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(m) > 0 && m[0] == typeControl {
		var c struct{ Type string }
		if err := json.Unmarshal(m[1:], &c); err != nil {
			return err
		}
		r.seen.Welcome = r.seen.Welcome || c.Type == "welcome"
		r.seen.Resync = r.seen.Resync || c.Type == "resync"
		return nil
	}
	f, err := decode(m)
	if err != nil {
		return err
	}
	r.seen.Messages++
	complete := r.seen.Complete
	for _, record := range f.Records {
		if record.Data == nil {
			return fmt.Errorf("key %d is removed", record.Key)
		}
		if !bytes.Equal(record.Data, value(record.Key, record.Tick)) {
			return fmt.Errorf("key %d of tick %d is not as it was sent", record.Key, record.Tick)
		}
		if before, known := r.state[record.Key]; known && before.Tick >= record.Tick {
			continue
		}
		r.state[record.Key] = record
		r.whole[record.Tick]++
		if r.whole[record.Tick] == r.count {
			r.seen.Complete++
		}
	}
	if len(r.state) != r.count {
		return nil
	}
	tick := r.state[1].Tick
	for _, record := range r.state {
		if record.Tick != tick {
			return nil
		}
	}
	if r.says && r.seen.Complete > complete {
		fmt.Println("whole", tick)
	}
	if tick == r.last {
		r.once.Do(func() { close(r.done) })
	}
	return nil
}

func read(ctx context.Context, s session, count int, last uint32, says bool) seen {
	r := &reader{state: map[uint32]Record{}, count: count, last: last, says: says, whole: map[uint32]int{}, done: make(chan struct{})}
	failed := make(chan error, 16)
	var open sync.WaitGroup
	go func() {
		for {
			m, err := s.receiveDatagram(ctx)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.seen.Datagrams++
			r.mu.Unlock()
			if err := r.take(m); err != nil {
				failed <- err
			}
		}
	}()
	streams := 0
	go func() {
		for {
			stream, err := s.acceptStream(ctx)
			if err != nil {
				return
			}
			streams++
			isControl := streams == 1
			if !isControl {
				open.Add(1)
				r.mu.Lock()
				r.seen.Begun++
				r.mu.Unlock()
			}
			go func() {
				err := messages(stream, r.take)
				if isControl {
					return
				}
				r.mu.Lock()
				if err == nil {
					r.seen.Ended++
				} else {
					r.seen.Reset++
				}
				r.mu.Unlock()
				open.Done()
			}()
		}
	}()
	fmt.Println("ready")
	var problem string
	select {
	case <-r.done:
		settled := make(chan struct{})
		go func() { open.Wait(); close(settled) }()
		select {
		case <-settled:
		case <-time.After(60 * time.Second):
			problem = "a stream neither ended nor was reset"
		}
	case err := <-failed:
		problem = err.Error()
	case <-ctx.Done():
		problem = "the last frame never was whole"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Error = problem
	return r.seen
}

// publish sends a frame each interval, by datagram where it is small and by a stream of its own where not, and then waits
// for input to end.
func publish(ctx context.Context, s session, frameBytes int, last uint32, interval time.Duration) error {
	go func() {
		for {
			if _, err := s.receiveDatagram(ctx); err != nil {
				return
			}
		}
	}()
	go func() {
		for {
			stream, err := s.acceptStream(ctx)
			if err != nil {
				return
			}
			go io.Copy(io.Discard, stream)
		}
	}()
	fmt.Println("ready")
	var line [1]byte
	if interval > 0 {
		os.Stdin.Read(line[:])
	}
	for tick := uint32(1); tick <= last; tick++ {
		if interval == 0 {
			os.Stdin.Read(line[:])
		}
		m := encode(tick, true, frameRecords(tick, frameBytes))
		if len(m) <= 1100 && tick < last {
			if err := s.sendDatagram(m); err != nil {
				return err
			}
		} else {
			stream, err := s.openStream(ctx)
			if err != nil {
				return err
			}
			if _, err := stream.Write(prefixed(m)); err != nil {
				return err
			}
			stream.Close()
		}
		time.Sleep(interval)
	}
	os.Stdin.Read(line[:])
	return nil
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Usage: interop read|publish URL CERTIFICATE_SHA256 FRAME_BYTES FRAMES INTERVAL_MS
// With an interval of 0 a publisher sends one for each line that it is told, and a reader says "whole TICK" of each.
func main() {
	role, url, hash := os.Args[1], os.Args[2], os.Args[3]
	frameBytes, err := strconv.Atoi(os.Args[4])
	fail(err)
	frames, err := strconv.Atoi(os.Args[5])
	fail(err)
	interval, err := strconv.Atoi(os.Args[6])
	fail(err)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Second)
	defer cancel()
	s, err := dial(ctx, url, pinned(hash))
	fail(err)
	if role == "publish" {
		fail(publish(ctx, s, frameBytes, uint32(frames), time.Duration(interval)*time.Millisecond))
	} else {
		out, err := json.Marshal(read(ctx, s, max(1, frameBytes/valueBytes), uint32(frames), interval == 0))
		fail(err)
		fmt.Println(string(out))
	}
	s.close()
}
