package config

import (
	"os"
	"path/filepath"
)

// awsFiles returns the files in which AWS's credentials may be, as AWS's own tools look for them. They are read again
// when the credentials expire. Not all of them need exist.
func awsFiles() (files []string) {
	shared := map[string]string{"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
	home, err := os.UserHomeDir()
	for _, name := range []string{
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE",
		"AWS_CONFIG_FILE",
	} {
		file := os.Getenv(name)
		if file == "" && shared[name] != "" && err == nil {
			file = filepath.Join(home, ".aws", shared[name])
		}
		if file != "" {
			files = append(files, file)
		}
	}
	return files
}
