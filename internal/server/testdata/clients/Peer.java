import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

/**
 * Java's own WebSocket client as a raw client of wsd, with each version of TLS and each cipher suite that wsd has for
 * its key. Usage: java Peer.java ADDRESS CONDUCTOR TRUSTED. See clients_test.go, which is the conductor.
 */
public class Peer {
    static final long WAIT_SECONDS = 20;
    /** What each client sends: with the limits that the test gives to Java, several times what one key may seal. */
    static final int SENT_BYTES = 512 << 10;
    static final Pattern NUMBER = Pattern.compile("\\{\"n\":(\\d+),\"channel\":\"user.alice\".*");
    static final HttpClient PLAIN = HttpClient.newHttpClient();

    /** A client, which checks that its records are numbered without a gap. */
    static class Client implements WebSocket.Listener {
        final CompletableFuture<Integer> closed = new CompletableFuture<>();
        final CountDownLatch records = new CountDownLatch(10);
        volatile CountDownLatch more = new CountDownLatch(10);
        volatile String failure;
        long last = -1;
        StringBuilder text = new StringBuilder();

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean isLast) {
            text.append(data);
            if (isLast) {
                Matcher m = NUMBER.matcher(text);
                if (!m.matches() || last >= 0 && Long.parseLong(m.group(1)) != last + 1) {
                    failure = text + " after " + last;
                } else {
                    last = Long.parseLong(m.group(1));
                }
                text.setLength(0);
                records.countDown();
                more.countDown();
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            closed.complete(code);
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            closed.completeExceptionally(error);
        }

        void await(CountDownLatch what) throws Exception {
            if (!what.await(WAIT_SECONDS, TimeUnit.SECONDS) || failure != null) {
                throw new Exception("no records, or not in order: " + failure + ", closed: " + closed);
            }
        }
    }

    static String conduct(String address, String method) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(address))
            .method(method, HttpRequest.BodyPublishers.noBody()).build();
        HttpResponse<String> response = PLAIN.send(request, HttpResponse.BodyHandlers.ofString());
        if (response.statusCode() != 200) {
            throw new Exception(address + ": status " + response.statusCode());
        }
        return response.body();
    }

    static SSLContext trusting(String file, String version) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream in = new FileInputStream(file)) {
            int n = 0;
            for (Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(in)) {
                store.setCertificateEntry("trusted" + n++, c);
            }
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext context = SSLContext.getInstance(version);
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }

    static HttpClient client(String trusted, String version, String suite) throws Exception {
        SSLParameters parameters = new SSLParameters(new String[] {suite}, new String[] {version});
        return HttpClient.newBuilder().sslContext(trusting(trusted, version)).sslParameters(parameters).build();
    }

    static WebSocket connect(HttpClient http, String address, String channel, String token, Client to) {
        return http.newWebSocketBuilder().connectTimeout(Duration.ofSeconds(WAIT_SECONDS))
            .header("Authorization", "Bearer " + token)
            .buildAsync(URI.create(address + "/ws?channel=" + channel), to).join();
    }

    static String scenario(String address, String conductor, String trusted) throws Exception {
        List<String> seen = new ArrayList<>();
        List<Client> clients = new ArrayList<>();
        List<WebSocket> sockets = new ArrayList<>();
        String token = conduct(conductor + "/token?user=alice&ttl=600", "GET");
        String[][] kinds = {
            {"TLSv1.3", "TLS_AES_128_GCM_SHA256"}, {"TLSv1.3", "TLS_AES_256_GCM_SHA384"},
            {"TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"}, {"TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
            {"TLSv1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
            {"TLSv1.2", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"},
        };
        for (String[] kind : kinds) {
            HttpClient http = client(trusted, kind[0], kind[1]);
            Client c = new Client();
            WebSocket socket = connect(http, address, "user.alice", token, c);
            c.await(c.records);
            try {
                connect(http, address, "user.bob", token, new Client());
                throw new Exception("has what it may not have");
            } catch (CompletionException e) {
                int status = ((WebSocketHandshakeException) e.getCause()).getResponse().statusCode();
                if (status != 403) {
                    throw new Exception("status " + status);
                }
            }
            for (int sent = 0; sent < SENT_BYTES; sent += 4 << 10) { // wsd reads and ignores it.
                socket.sendBinary(ByteBuffer.allocate(4 << 10), true).join();
            }
            c.more = new CountDownLatch(10);
            c.await(c.more);
            clients.add(c);
            sockets.add(socket);
            seen.add('"' + kind[0] + " " + kind[1] + '"');
        }
        // The certificate and the key are replaced: all stay, and others connect.
        conduct(conductor + "/certificate", "POST");
        conduct(conductor + "/rotate", "POST");
        token = conduct(conductor + "/token?user=alice&ttl=600", "GET");
        for (String version : new String[] {"TLSv1.2", "TLSv1.3"}) {
            Client c = new Client();
            String suite = version.equals("TLSv1.3") ? kinds[0][1] : kinds[3][1];
            sockets.add(connect(client(trusted, version, suite), address, "user.alice", token, c));
            clients.add(c);
        }
        for (Client c : clients) {
            c.more = new CountDownLatch(10);
            c.await(c.more);
        }
        for (int i = 0; i < clients.size(); i++) {
            sockets.get(i).sendClose(WebSocket.NORMAL_CLOSURE, "").join();
            int code = clients.get(i).closed.get(WAIT_SECONDS, TimeUnit.SECONDS);
            if (code != WebSocket.NORMAL_CLOSURE) {
                throw new Exception("closed with " + code);
            }
        }
        return "{\"ok\":true,\"seen\":[" + String.join(",", seen) + "]}";
    }

    public static void main(String[] args) throws Exception {
        String report;
        try {
            report = scenario(args[0], args[1], args[2]);
        } catch (Throwable e) {
            e.printStackTrace();
            report = "{\"ok\":false}";
        }
        HttpRequest request = HttpRequest.newBuilder(URI.create(args[1] + "/report"))
            .POST(HttpRequest.BodyPublishers.ofString(report)).build();
        PLAIN.send(request, HttpResponse.BodyHandlers.discarding());
        System.exit(0);
    }
}
