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

// Setting describes one of the maps that operators write. Its name is also the last
// part of its key in the configuration (weight: weights) and its name for `wsd steer`.
type Setting struct {
	Name     string
	PerShard bool   // One entry for each shard, else one in all.
	Most     uint32 // The largest value in range.
	Instead  uint32 // What counts in place of a value above Most.
	Unit     Unit
}

// Unit says what a value counts.
type Unit int

// The units.
const (
	Count        Unit = iota
	Milliseconds      // Shown and read as a duration.
	Switch            // Not 0: on. Shown and read as true or false.
	PolicyName        // Shown and read as a name of Policies.
)

const anyU32 = ^uint32(0)

// What wsd does with each is written at its map in bpf/settings.h, the limits too.
var settings = []Setting{
	{Name: steerMapPolicy, Most: uint32(steerPolicyKindPOLICIES) - 1, Instead: uint32(steerPolicyKindPOLICY_LEAST_LOADED), Unit: PolicyName},
	{Name: steerMapWeight, PerShard: true, Most: uint32(steerLimitWEIGHT_MAX), Instead: uint32(steerLimitWEIGHT_DEFAULT)},
	{Name: steerMapDrain, PerShard: true, Most: anyU32, Unit: Switch},
	{Name: steerMapStallBound, Most: uint32(steerLimitSTALL_BOUND_MAX), Unit: Milliseconds},
	{Name: steerMapRamp, Most: uint32(steerLimitRAMP_MAX), Unit: Milliseconds},
	{Name: steerMapPendingMax, Most: uint32(steerLimitPENDING_MAX_MAX)},
	{Name: steerMapCpuLocalBound, Most: uint32(steerLimitCPU_LOCAL_BOUND_MAX)},
	{Name: steerMapAdmission, Most: uint32(steerLimitADMISSION_MAX)},
	{Name: steerMapAdmissionDryRun, Most: anyU32, Unit: Switch},
	{Name: steerMapSourceRate, Most: uint32(steerLimitSOURCE_RATE_MAX)},
	{Name: steerMapSourceBurst, Most: uint32(steerLimitSOURCE_BURST_MAX)},
	{Name: steerMapSourcePrefix4, Most: uint32(steerLimitSOURCE_PREFIX4MAX), Instead: uint32(steerLimitSOURCE_PREFIX4DEFAULT)},
	{Name: steerMapSourcePrefix6, Most: uint32(steerLimitSOURCE_PREFIX6MAX), Instead: uint32(steerLimitSOURCE_PREFIX6DEFAULT)},
	{Name: steerMapSourceDryRun, Most: anyU32, Unit: Switch},
}

// AllSettings lists the settings, in a fixed order. The caller must not change it.
func AllSettings() []Setting { return settings }

// Policies are the names of the policies; the index is the value in the map.
func Policies() []string {
	return []string{
		steerPolicyKindPOLICY_LEAST_LOADED: "least-loaded", steerPolicyKindPOLICY_WEIGHTED: "weighted", steerPolicyKindPOLICY_P2C: "p2c",
		steerPolicyKindPOLICY_CPU_LOCAL: "cpu-local", steerPolicyKindPOLICY_HASH: "hash",
	}
}

// SettingNamed returns the setting of that name. An error names those that there are.
func SettingNamed(name string) (Setting, error) {
	var names []string
	for _, s := range settings {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return Setting{}, fmt.Errorf("there is no setting %q: there are %s", name, strings.Join(names, ", "))
}

// Parse reads a value as people write it: a whole number, and by unit also a
// duration, true or false, or a policy's name.
func (s Setting) Parse(text string) (uint32, error) {
	switch s.Unit {
	case PolicyName:
		if i := slices.Index(Policies(), text); i >= 0 {
			return uint32(i), nil
		}
		return 0, fmt.Errorf("%s %q: it must be one of %s", s.Name, text, strings.Join(Policies(), ", "))
	case Milliseconds:
		if d, err := time.ParseDuration(text); err == nil && d >= 0 && d.Milliseconds() <= int64(s.Most) && d%time.Millisecond == 0 {
			return uint32(d.Milliseconds()), nil
		}
		return 0, fmt.Errorf("%s %q: it must be a duration from 0s to %v in whole milliseconds, such as 200ms", s.Name, text, s.duration(s.Most))
	case Switch:
		switch text {
		case "true", "1":
			return 1, nil
		case "false", "0":
			return 0, nil
		}
		return 0, fmt.Errorf("%s %q: it must be true or false", s.Name, text)
	case Count:
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > uint64(s.Most) {
		return 0, fmt.Errorf("%s %q: it must be a whole number from 0 to %d", s.Name, text, s.Most)
	}
	return uint32(n), nil
}

// Text is a value as Parse reads it. One out of range is shown as the number that it is.
func (s Setting) Text(value uint32) string {
	switch {
	case value > s.Most:
	case s.Unit == PolicyName:
		return Policies()[value]
	case s.Unit == Milliseconds:
		return s.duration(value).String()
	case s.Unit == Switch:
		return strconv.FormatBool(value != 0)
	}
	return strconv.FormatUint(uint64(value), 10)
}

// InForce is what counts when the map holds value.
func (s Setting) InForce(value uint32) uint32 {
	if value > s.Most {
		return s.Instead
	}
	return value
}

func (s Setting) duration(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }

// entries is how many the setting's map has.
func (s Setting) entries(shards int) int {
	if s.PerShard {
		return shards
	}
	return 1
}

// Values is a value for each entry of each setting, by name.
type Values map[string][]uint32

// DefaultValues is what counts where the configuration says nothing: the fewest
// connections, no limit, no stall detection.
func DefaultValues(shards int) Values {
	v := make(Values)
	for _, s := range settings {
		v[s.Name] = slices.Repeat([]uint32{s.Instead}, s.entries(shards))
	}
	return v
}

// clone checks that all is there, and in range.
func (v Values) clone(shards int) (Values, error) {
	all := make(Values)
	for _, s := range settings {
		entries := v[s.Name]
		if len(entries) != s.entries(shards) {
			return nil, fmt.Errorf("BUG: %d values of %s for %d shards", len(entries), s.Name, shards)
		}
		for _, value := range entries {
			if value > s.Most {
				return nil, fmt.Errorf("BUG: %s is %d, at most %d", s.Name, value, s.Most)
			}
		}
		all[s.Name] = slices.Clone(entries)
	}
	return all, nil
}

// Configured is what the settings began with. Any goroutine may call it, and must not
// change it.
func (s *Steering) Configured() Values { return s.configured }

// Values reads what the maps hold now, out of range or not; where the kernel's hash
// chooses, and after Close, what they began with. It costs a system call for each
// entry. Any goroutine may call it.
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

// ErrNotSteering is why a setting cannot be set: nobody would look at it.
var ErrNotSteering = errors.New("the kernel's hash chooses the shards, so there is nothing to set")

// Set writes an entry of a setting, as `bpftool map update` would; shard is 0 for a
// setting that has one entry. It is for what an operator asks: wsd itself never
// calls it. A value out of range is an error. Any goroutine may call it.
func (s *Steering) Set(setting Setting, shard routing.ShardID, value uint32) error {
	if value > setting.Most {
		return fmt.Errorf("%s %d: it must be at most %d", setting.Name, value, setting.Most)
	}
	if n := setting.entries(len(s.slots)); int(shard) >= n {
		return fmt.Errorf("%s of shard %d: the last shard is %d", setting.Name, shard, n-1)
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

// admissionOwn is the entry of the map admission that is wsd's own (bpf/settings.h).
const admissionOwn = uint32(1)

// SetAdmission sets wsd's own level of admission, 0 to 100; the stricter of it and the
// operator's holds. It does nothing where the kernel's hash chooses. Any goroutine
// may call it.
func (s *Steering) SetAdmission(percent uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		return nil
	}
	if err := s.objects.settings[steerMapAdmission].Update(admissionOwn, percent, ebpf.UpdateExist); err != nil {
		return explain("write map "+steerMapAdmission, err)
	}
	return nil
}

// Admission returns wsd's own level of admission as the map has it. Any goroutine may
// call it.
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

// Exempt lists the prefixes that source_rate does not apply to, as the map has them
// now, sorted; what they began with where the kernel's hash chooses, and after
// Close. Any goroutine may call it.
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
