package steering

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"wsd/internal/routing"
)

// Setting describes one of the maps that operators write.
type Setting struct {
	Name     string // Name of the map, of the setting in `wsd steer`, and of the option below steering (weight: weights).
	PerShard bool   // Whether each shard has an entry. Otherwise the map has one entry.
	Max      uint32 // Largest value in range.
	Instead  uint32 // Value that applies if the value in the map is larger than Max.
	Unit     Unit   // How people write the value.
}

// Unit is how people write the values of a setting.
type Unit int

// The units.
const (
	Count        Unit = iota // A whole number.
	Milliseconds             // A duration such as 150ms.
	Switch                   // true or false. Any value but 0 is true.
	PolicyName               // A name of Policies.
)

const anyU32 = ^uint32(0)

// settings lists the settings. bpf/settings.h says what each does, and has the limits.
var settings = []Setting{
	{Name: steerMapPolicy, Max: uint32(steerPolicyKindPOLICIES) - 1,
		Instead: uint32(steerPolicyKindPOLICY_LEAST_LOADED), Unit: PolicyName},
	{Name: steerMapWeight, PerShard: true, Max: uint32(steerLimitWEIGHT_MAX),
		Instead: uint32(steerLimitWEIGHT_DEFAULT)},
	{Name: steerMapDrain, PerShard: true, Max: anyU32, Unit: Switch},
	{Name: steerMapStallBound, Max: uint32(steerLimitSTALL_BOUND_MAX), Unit: Milliseconds},
	{Name: steerMapRamp, Max: uint32(steerLimitRAMP_MAX), Unit: Milliseconds},
	{Name: steerMapPendingMax, Max: uint32(steerLimitPENDING_MAX_MAX)},
	{Name: steerMapCpuLocalBound, Max: uint32(steerLimitCPU_LOCAL_BOUND_MAX)},
	{Name: steerMapAdmission, Max: uint32(steerLimitADMISSION_MAX)},
	{Name: steerMapAdmissionDryRun, Max: anyU32, Unit: Switch},
	{Name: steerMapSourceRate, Max: uint32(steerLimitSOURCE_RATE_MAX)},
	{Name: steerMapSourceBurst, Max: uint32(steerLimitSOURCE_BURST_MAX)},
	{Name: steerMapSourcePrefix4, Max: uint32(steerLimitSOURCE_PREFIX4MAX),
		Instead: uint32(steerLimitSOURCE_PREFIX4DEFAULT)},
	{Name: steerMapSourcePrefix6, Max: uint32(steerLimitSOURCE_PREFIX6MAX),
		Instead: uint32(steerLimitSOURCE_PREFIX6DEFAULT)},
	{Name: steerMapSourceDryRun, Max: anyU32, Unit: Switch},
}

// AllSettings returns the settings, in a fixed order. The caller must not change the slice.
func AllSettings() []Setting { return settings }

// Policies returns the names of the policies. The index of a name is its value in the map.
func Policies() []string {
	return []string{
		steerPolicyKindPOLICY_LEAST_LOADED: "least-loaded", steerPolicyKindPOLICY_WEIGHTED: "weighted",
		steerPolicyKindPOLICY_P2C:       "p2c",
		steerPolicyKindPOLICY_CPU_LOCAL: "cpu-local", steerPolicyKindPOLICY_HASH: "hash",
	}
}

// SettingNamed returns the setting with that name. The error lists the settings that exist.
func SettingNamed(name string) (Setting, error) {
	var names []string
	for _, s := range settings {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Setting{}, fmt.Errorf("no setting is named %q; the settings are %s", name, strings.Join(names, ", "))
}

// Parse reads a value as people write it: a whole number, a duration, true or false, or the name of a policy, depending
// on the unit. The error says what is allowed.
func (s Setting) Parse(text string) (uint32, error) {
	switch s.Unit {
	case PolicyName:
		if i := slices.Index(Policies(), text); i >= 0 {
			return uint32(i), nil
		}
		return 0, fmt.Errorf("%s %q must be one of %s", s.Name, text, strings.Join(Policies(), ", "))
	case Milliseconds:
		if d, err := time.ParseDuration(text); err == nil && d >= 0 && d.Milliseconds() <= int64(s.Max) &&
			d%time.Millisecond == 0 {
			return uint32(d.Milliseconds()), nil
		}
		return 0, fmt.Errorf("%s %q must be a duration from 0s to %v in whole milliseconds, such as 200ms", s.Name,
			text, s.duration(s.Max))
	case Switch:
		switch text {
		case "true", "1":
			return 1, nil
		case "false", "0":
			return 0, nil
		}
		return 0, fmt.Errorf("%s %q must be true or false", s.Name, text)
	case Count:
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > uint64(s.Max) {
		return 0, fmt.Errorf("%s %q must be a whole number from 0 to %d", s.Name, text, s.Max)
	}
	return uint32(n), nil
}

// Text returns a value in the form that Parse reads, or as a plain number if it is out of range.
func (s Setting) Text(value uint32) string {
	switch {
	case value > s.Max:
	case s.Unit == PolicyName:
		return Policies()[value]
	case s.Unit == Milliseconds:
		return s.duration(value).String()
	case s.Unit == Switch:
		return strconv.FormatBool(value != 0)
	}
	return strconv.FormatUint(uint64(value), 10)
}

// InForce returns the value that applies when the map contains value.
func (s Setting) InForce(value uint32) uint32 {
	if value > s.Max {
		return s.Instead
	}
	return value
}

func (s Setting) duration(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// entries returns the number of entries of the setting's map.
func (s Setting) entries(shards int) int {
	if s.PerShard {
		return shards
	}
	return 1
}

// Values has the values of all entries of each setting, by the name of the setting.
type Values map[string][]uint32

// DefaultValues returns values that steer by load alone: policy least-loaded, no limits, no stall detection.
func DefaultValues(shards int) Values {
	v := make(Values)
	for _, s := range settings {
		v[s.Name] = slices.Repeat([]uint32{s.Instead}, s.entries(shards))
	}
	return v
}

// clone copies v, after it has checked that every entry exists and is in range.
func (v Values) clone(shards int) (Values, error) {
	all := make(Values)
	for _, s := range settings {
		entries := v[s.Name]
		if len(entries) != s.entries(shards) {
			return nil, fmt.Errorf("BUG: %d values of %s for %d shards", len(entries), s.Name, shards)
		}
		for _, value := range entries {
			if value > s.Max {
				return nil, fmt.Errorf("BUG: %s is %d, the maximum is %d", s.Name, value, s.Max)
			}
		}
		all[s.Name] = slices.Clone(entries)
	}
	return all, nil
}

// Configured returns the settings as configured, which the maps had at start. Any goroutine may call it. The caller
// must not change the map.
func (s *Steering) Configured() Values { return s.configured }

// Values reads the current values from the maps, out of range or not. Where the kernel's hash chooses, and after Close,
// it returns Configured. It costs one system call for each entry. Any goroutine may call it.
func (s *Steering) Values() (Values, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return s.configured, nil
	}
	now := make(Values)
	for _, setting := range settings {
		entries := make([]uint32, setting.entries(len(s.slots)))
		for i := range entries {
			if err := s.objects.settings[setting.Name].Lookup(uint32(i), &entries[i]); err != nil {
				return nil, explain("read map "+setting.Name, err)
			}
		}
		now[setting.Name] = entries
	}
	return now, nil
}

// ErrNotSteering is the error of setting a value where the kernel's hash chooses, because nothing would read the value.
var ErrNotSteering = errors.New("the kernel's hash chooses the shards, so settings have no effect")

// Set writes an entry of a setting, like `bpftool map update`. shard is 0 for a setting with one entry. It returns
// ErrNotSteering where the kernel's hash chooses, and an error if the value is out of range or the shard does not
// exist. Set is for requests of an operator; wsd never changes a setting of its own accord. Any goroutine may call it.
func (s *Steering) Set(setting Setting, shard routing.ShardID, value uint32) error {
	if value > setting.Max {
		return fmt.Errorf("%s %d must be at most %d", setting.Name, value, setting.Max)
	}
	if n := setting.entries(len(s.slots)); int(shard) >= n {
		return fmt.Errorf("%s of shard %d: the highest shard is %d", setting.Name, shard, n-1)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return ErrNotSteering
	}
	if err := s.objects.settings[setting.Name].Update(uint32(shard), value, ebpf.UpdateExist); err != nil {
		return explain("write map "+setting.Name, err)
	}
	return nil
}

// admissionOwn is the entry of the map admission that wsd itself writes (bpf/settings.h).
const admissionOwn = uint32(1)

// SetAdmission sets the percentage of new connections that wsd itself wants refused, 0 to 100. The higher of it and the
// operator's setting applies. It does nothing where the kernel's hash chooses. Any goroutine may call it.
func (s *Steering) SetAdmission(percent uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admission = percent
	return s.writeAdmission()
}

// Refuse makes the program refuse every new connection, whatever SetAdmission says, or ends that. It does nothing where
// the kernel's hash chooses, and a dry run of admission does not refuse. Any goroutine may call it.
func (s *Steering) Refuse(all bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = all
	return s.writeAdmission()
}

// writeAdmission writes wsd's own entry. The caller holds the mutex.
func (s *Steering) writeAdmission() error {
	if s.objects == nil {
		return nil
	}
	percent := s.admission
	if s.refusing {
		percent = 100
	}
	if err := s.objects.settings[steerMapAdmission].Update(admissionOwn, percent, ebpf.UpdateExist); err != nil {
		return explain("write map "+steerMapAdmission, err)
	}
	return nil
}

// Admission returns the percentage that SetAdmission has set, or 100 after Refuse. Any goroutine may call it.
func (s *Steering) Admission() (percent uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return 0, nil
	}
	if err := s.objects.settings[steerMapAdmission].Lookup(admissionOwn, &percent); err != nil {
		return 0, explain("read map "+steerMapAdmission, err)
	}
	return percent, nil
}

// Exempt returns the prefixes that source_rate does not apply to, read from the map and sorted. Where the kernel's hash
// chooses, and after Close, it returns the configured ones. Any goroutine may call it.
func (s *Steering) Exempt() ([]netip.Prefix, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return s.options.Exempt, nil
	}
	return readExempt(s.objects.exempt)
}

func readExempt(m *ebpf.Map) ([]netip.Prefix, error) {
	var list []netip.Prefix
	var key steerAddressPrefix
	var value uint32
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if value != 0 {
			list = append(list, prefixOf(key))
		}
	}
	if err := entries.Err(); err != nil {
		return nil, explain("read map "+steerMapSourceExempt, err)
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if by := a.Addr().Compare(b.Addr()); by != 0 {
			return by
		}
		return a.Bits() - b.Bits()
	})
	return list, nil
}

func writeExempt(m *ebpf.Map, prefixes []netip.Prefix) error {
	for _, p := range prefixes {
		if err := m.Update(prefixKey(p), uint32(1), ebpf.UpdateAny); err != nil {
			return explain(fmt.Sprintf("put %v into map %s", p, steerMapSourceExempt), err)
		}
	}
	return nil
}
