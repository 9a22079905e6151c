package wire

// Fields returns the header fields of a request head that have one of the names, which are in lower case, in the order
// of the head. It leaves out values with control characters. Names are returned as in names, and nothing aliases head.
// The head must be one that Handshake has accepted or passed to decide.
func Fields(head []byte, names []string) (fields [][2]string) {
	_, rest, ok := cutLine(skipEmptyLines(head))
	for ok {
		var line []byte
		if line, rest, ok = cutLine(rest); !ok || len(line) == 0 {
			break
		}
		name, value, isField := cutField(line)
		if !isField || hasControl(value) {
			continue
		}
		for _, wanted := range names {
			if equalFold(name, wanted) {
				fields = append(fields, [2]string{wanted, string(value)})
				break
			}
		}
	}
	return fields
}

// FieldValue reports whether a text can be the value of a header field.
func FieldValue(text string) bool { return !hasControl([]byte(text)) }
