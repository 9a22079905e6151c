// Package config gathers the options of wsd from flags, environment, a YAML file and defaults, in this order of precedence, and
// checks them.
//
// An option has one name everywhere: key kafka.fetch_max_wait, flag --kafka.fetch-max-wait, variable WSD_KAFKA_FETCH_MAX_WAIT. The
// fields' tags are the one list of options: `key` the key, `def` the default, `help` what it is, `secret` that it is never shown.
//
// The file is read as a tree of YAML nodes rather than into a map: so a fault can name its line, a value is never coerced, and each
// value knows where it comes from.
//
// Thread rule: a Config is read-only after Load. The package starts nothing and reads no file but the configuration file and those
// that password_file and the like name.
package config
