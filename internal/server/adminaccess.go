package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync/atomic"

	"wsd/internal/admin"
	"wsd/internal/config"
	"wsd/internal/reload"
)

// adminAccess is the token and the certificate of the admin port in use.
type adminAccess struct {
	files *reload.Value[*config.AdminSecrets] // Nil: there are no files.
	used  atomic.Pointer[config.AdminSecrets] // Requests and handshakes read it; none of them reads a file.
}

// set reads the secrets of the configuration.
func (a *adminAccess) set(c *config.Admin, log *slog.Logger) error {
	first, err := c.Read()
	if err != nil {
		return err
	}
	a.used.Store(first)
	if files := c.Files(); c.Listen != "" && len(files) > 0 {
		a.files = reload.New(first, reload.Options[*config.AdminSecrets]{
			Name: "token and certificate of the admin port", Paths: files, Parse: c.Parse, Logger: log,
		})
		a.Refresh()
	}
	return nil
}

// Refresh reads the files again, and has new requests and handshakes use what has changed. It implements
// reload.Refresher.
func (a *adminAccess) Refresh() { a.used.Store(a.files.Get()) }

// watch refreshes until the returned function is called, which returns when that has ended.
func (a *adminAccess) watch(ctx context.Context) (stop func()) {
	if a.files == nil {
		return func() {}
	}
	return watchFiles(ctx, "admin", "files", keysInterval, a)
}

// grant sets the options of the admin port. Whether there is a token, and a certificate, does not change later.
func (a *adminAccess) grant(o *admin.Options) {
	first := a.used.Load()
	if first.Token != "" {
		o.Token = func() string { return a.used.Load().Token }
	}
	if first.Certificate != nil {
		o.TLS = &tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				if c := a.used.Load().Certificate; c != nil {
					return c, nil
				}
				return nil, errors.New("BUG: the certificate of the admin port is gone")
			},
		}
	}
}
