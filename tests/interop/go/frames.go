// A client of the frame protocol, version 1, written from docs/FRAMES.md alone.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	headerBytes = 24
	typeFrame   = 1
	typeControl = 16

	flagKeyframe = 1
	flagZstd     = 2
	flagTicks    = 8

	removed         = 0xFFFFFFFF
	messageBytesMax = 16 << 20
)

// Record is a key's value at a tick; a nil Data says that it is removed.
type Record struct {
	Key  uint32
	Tick uint32
	Data []byte
}

// Frame is one message of a frame.
type Frame struct {
	Keyframe    bool
	Part, Parts uint16
	Epoch, Tick uint32
	Records     []Record
}

// decode reads a FRAME message.
func decode(m []byte) (*Frame, error) {
	if len(m) < headerBytes || m[0] != typeFrame {
		return nil, errors.New("not a frame")
	}
	flags, stride := m[1], int(binary.LittleEndian.Uint16(m[6:]))
	if flags&flagZstd != 0 {
		return nil, errors.New("compressed, though nobody asked for that")
	}
	f := &Frame{
		Keyframe: flags&flagKeyframe != 0,
		Part:     binary.LittleEndian.Uint16(m[2:]),
		Parts:    binary.LittleEndian.Uint16(m[4:]),
		Epoch:    binary.LittleEndian.Uint32(m[8:]),
		Tick:     binary.LittleEndian.Uint32(m[12:]),
	}
	for rest := m[headerBytes:]; len(rest) > 0; {
		r := Record{Tick: f.Tick}
		if flags&flagTicks != 0 {
			if len(rest) < 4 {
				return nil, errors.New("cut short before a tick")
			}
			r.Tick, rest = binary.LittleEndian.Uint32(rest), rest[4:]
		}
		if stride > 0 {
			if len(rest) < stride {
				return nil, errors.New("not a multiple of the stride")
			}
			r.Key, r.Data, rest = binary.LittleEndian.Uint32(rest), rest[:stride], rest[stride:]
		} else {
			if len(rest) < 8 {
				return nil, errors.New("cut short before a length")
			}
			size := binary.LittleEndian.Uint32(rest[4:])
			r.Key, rest = binary.LittleEndian.Uint32(rest), rest[8:]
			if size != removed {
				if uint64(len(rest)) < uint64(size) {
					return nil, errors.New("a record is cut short")
				}
				r.Data, rest = rest[:size:size], rest[size:]
			}
		}
		f.Records = append(f.Records, r)
	}
	return f, nil
}

// encode writes a FRAME message of these records, epoch 0: the session's.
func encode(tick uint32, keyframe bool, records []Record) []byte {
	m := make([]byte, headerBytes, headerBytes+len(records)*32)
	m[0] = typeFrame
	if keyframe {
		m[1] = flagKeyframe
	}
	binary.LittleEndian.PutUint16(m[4:], 1)
	binary.LittleEndian.PutUint32(m[12:], tick)
	for _, r := range records {
		m = binary.LittleEndian.AppendUint32(m, r.Key)
		m = binary.LittleEndian.AppendUint32(m, uint32(len(r.Data)))
		m = append(m, r.Data...)
	}
	return m
}

// messages reads a stream's length-prefixed messages to its end.
func messages(r io.Reader, take func([]byte) error) error {
	var head [4]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		size := binary.LittleEndian.Uint32(head[:])
		if size == 0 || size > messageBytesMax {
			return fmt.Errorf("a message of %d bytes", size)
		}
		m := make([]byte, size)
		if _, err := io.ReadFull(r, m); err != nil {
			return err
		}
		if err := take(m); err != nil {
			return err
		}
	}
}

// prefixed puts a message's length before it.
func prefixed(m []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(m))), m...)
}

const valueBytes = 1000

// frameRecords is what a frame of about so many bytes holds at a tick: every byte follows from key and tick.
func frameRecords(tick uint32, frameBytes int) []Record {
	count := max(1, frameBytes/valueBytes)
	records := make([]Record, count)
	for i := range records {
		records[i] = Record{Key: uint32(i + 1), Tick: tick, Data: value(uint32(i+1), tick)}
	}
	return records
}

func value(key, tick uint32) []byte {
	data := make([]byte, valueBytes)
	x := uint64(key)<<32 | uint64(tick) | 1
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	return data
}
