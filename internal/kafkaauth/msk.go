package kafkaauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/aws/aws-msk-iam-sasl-signer-go/signer"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/segmentio/kafka-go/sasl"
)

// MSK returns tokens for AWS MSK's access control by IAM, which brokers take by OAUTHBEARER: a request to kafka-cluster
// that is signed with Signature Version 4, but not sent. The credentials are those that AWS's SDK finds: environment,
// shared files, web identity, container, instance. An empty region is found in the broker's name, else in the same
// places.
func MSK(region string) Tokens { return &mskTokens{region: region, turn: make(chan struct{}, 1)} }

// MSKAdvice is what to check if a broker refuses such a token.
const MSKAdvice = "the AWS credentials, and that their policy allows kafka-cluster:Connect"

// staticLife is how long credentials without an end are used. The SDK reads them only once, and they may be replaced.
const staticLife = 10 * time.Second

// mskTokens asks for credentials one login at a time. Whoever holds turn owns the fields below it.
type mskTokens struct {
	region string

	turn   chan struct{}
	config aws.Config
	stale  time.Time // When config has to be made again.
}

// Token implements Tokens.
func (m *mskTokens) Token(ctx context.Context) (string, error) {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("wait for AWS credentials: %w", ctx.Err())
	}
	defer func() { <-m.turn }()
	if now := time.Now(); !now.Before(m.stale) {
		c, err := config.LoadDefaultConfig(ctx)
		if err != nil {
			return "", fmt.Errorf("read the AWS settings: %w", err)
		}
		m.config, m.stale = c, now.Add(staticLife)
	}
	host := ""
	if broker := sasl.MetadataFromContext(ctx); broker != nil {
		host = broker.Host
	}
	region := cmp.Or(m.region, regionOf(host), m.config.Region)
	if region == "" {
		return "", errors.New("the AWS region is not known: set kafka.sasl.aws.region or AWS_REGION")
	}
	credentials, err := m.config.Credentials.Retrieve(ctx)
	if err != nil {
		m.stale = time.Time{}
		return "", fmt.Errorf("get AWS credentials: %w", err)
	}
	if credentials.CanExpire { // The SDK renews these itself, and asking again would cost a request.
		m.stale = time.Now().Add(time.Hour)
	}
	token, _, err := signer.GenerateAuthTokenFromCredentialsProvider(ctx, region,
		aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil }))
	if err != nil {
		return "", fmt.Errorf("sign with AWS credentials: %w", err)
	}
	return token, nil
}

// Refused implements Tokens.
func (*mskTokens) Refused(string) {}

// brokerName is the name of an MSK broker, such as b-1.name.abcde.c2.kafka.eu-west-1.amazonaws.com. The region of a
// serverless cluster's is in the same place.
var brokerName = regexp.MustCompile(`\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?\.?$`)

// regionOf returns the region in a broker's name, or "".
func regionOf(host string) string {
	if found := brokerName.FindStringSubmatch(host); found != nil {
		return found[1]
	}
	return ""
}
