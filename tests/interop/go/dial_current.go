//go:build current || draft15

package main

import (
	"context"
	"crypto/tls"
	"io"

	"github.com/quic-go/webtransport-go"
)

type wrapped struct{ *webtransport.Session }

func dial(ctx context.Context, url string, conf *tls.Config) (session, error) {
	d := webtransport.Transport{TLSClientConfig: conf}
	_, s, err := d.Dial(ctx, url, nil)
	return wrapped{s}, err
}

func (w wrapped) receiveDatagram(ctx context.Context) ([]byte, error) { return w.ReceiveDatagram(ctx) }
func (w wrapped) sendDatagram(m []byte) error                         { return w.SendDatagram(m) }
func (w wrapped) acceptStream(ctx context.Context) (io.Reader, error) { return w.AcceptUniStream(ctx) }
func (w wrapped) openStream(ctx context.Context) (io.WriteCloser, error) {
	return w.OpenUniStreamSync(ctx)
}
func (w wrapped) close() { w.CloseWithError(0, "") }
