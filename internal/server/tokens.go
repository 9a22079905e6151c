package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"wsd/internal/auth"
	"wsd/internal/config"
)

// VerifyToken verifies one token as a server with this configuration would, for commands: it fetches key sets first. If
// it is not accepted, the error is an *auth.Error.
func VerifyToken(ctx context.Context, cfg *config.Config, purpose auth.Purpose, token string) (*auth.Claims, error) {
	id, err := newIdentity(cfg, slog.New(slog.DiscardHandler))
	switch {
	case err != nil:
		return nil, err
	case id == nil:
		return nil, errors.New("auth.mode is none, so wsd ignores tokens: set it to token, or name the file that " +
			"does with --config")
	}
	for _, source := range id.sources {
		if source.set == nil {
			continue
		}
		if err := source.set.fetch(ctx); err != nil {
			return nil, fmt.Errorf("fetch the keys at %s: %w", source.set.shown, err)
		}
	}
	return id.verifiers[purpose].Verify(token)
}
