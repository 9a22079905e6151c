// Package config reads the options of wsd from flags, the environment, a YAML file and defaults, and checks them. The
// first of these places that has a value for an option decides.
//
// An option has the same name everywhere: key kafka.fetch_max_wait, flag --kafka.fetch-max-wait, environment variable
// WSD_KAFKA_FETCH_MAX_WAIT. The options are the fields of Config, and their tags describe them: key is the key, def the
// default, help the documentation, and secret marks a value that must not be shown.
//
// The file is read as a tree of YAML nodes rather than into a map, so that a fault can name its line, that no value is
// converted from another type, and that the origin of each value is known.
//
// Thread rule: a Config is read-only after Load. The package starts no goroutine. It reads the configuration file and
// the files that options such as password_file name, and no other file.
package config
