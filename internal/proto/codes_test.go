package proto

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// entry is one line of a table in codes.go.
type entry struct {
	name      string
	code      int
	text      string
	temporary bool
	doc       string
}

// table reads the entries of a type from the source, so that none can be left
// out of what is checked here.
func table(tb testing.TB, typeName string) (entries []entry) {
	tb.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, parser.ParseComments)
	require.NoError(tb, err)
	for _, decl := range f.Decls {
		d, ok := decl.(*ast.GenDecl)
		if !ok || d.Tok != token.VAR {
			continue
		}
		for _, spec := range d.Specs {
			v := spec.(*ast.ValueSpec)
			value := v.Values[0]
			if u, ok := value.(*ast.UnaryExpr); ok {
				value = u.X
			}
			literal := value.(*ast.CompositeLit)
			if literal.Type.(*ast.Ident).Name != typeName {
				continue
			}
			e := entry{name: v.Names[0].Name, doc: v.Doc.Text()}
			e.code, err = strconv.Atoi(literal.Elts[0].(*ast.BasicLit).Value)
			require.NoError(tb, err)
			e.text, err = strconv.Unquote(literal.Elts[1].(*ast.BasicLit).Value)
			require.NoError(tb, err)
			if len(literal.Elts) > 2 {
				e.temporary = literal.Elts[2].(*ast.Ident).Name == "true"
			}
			entries = append(entries, e)
		}
	}
	return entries
}

// Which codes there are is the protocol's to say.
func TestTables(t *testing.T) {
	tests := []struct {
		typeName  string
		codes     []int
		temporary []int
	}{
		{"Error", []int{100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113}, []int{100, 111, 113}},
		{"Disconnect", []int{
			3000, 3001, 3004, 3005, 3006, 3008, 3009, 3010, 3011, 3012, 3013, 3014,
			3500, 3501, 3502, 3503, 3504, 3505, 3506, 3507, 3508, 3509,
		}, nil},
		{"Unsubscribe", []int{2000, 2500, 2501, 2502}, nil},
	}
	for _, test := range tests {
		t.Run(test.typeName, func(t *testing.T) {
			var codes, temporary []int
			seen := map[string]bool{}
			for _, e := range table(t, test.typeName) {
				codes = append(codes, e.code)
				if e.temporary {
					temporary = append(temporary, e.code)
				}
				require.Contains(t, e.doc, e.name+" means ", "%s is not documented", e.name)
				require.NotEmpty(t, e.text)
				require.True(t, utf8.ValidString(e.text))
				require.LessOrEqual(t, len(e.text), 123, "%s does not fit into a close frame", e.name)
				require.False(t, seen[e.text], "%s has the text of another one", e.name)
				seen[e.text] = true
			}
			require.Equal(t, test.codes, codes)
			require.Equal(t, test.temporary, temporary)
		})
	}
}

func TestErrorReply(t *testing.T) {
	reply := ErrTooManyRequests.Reply()
	require.Equal(t, uint32(111), reply.Code)
	require.Equal(t, "too many requests", reply.Message)
	require.True(t, reply.Temporary)
	require.False(t, ErrMethodNotFound.Reply().Temporary)
	require.EqualError(t, ErrUnknownChannel, "unknown channel")
}
