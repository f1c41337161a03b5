// Java ignores HTTPS_PROXY and has its own trusted certificates.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.regex.Pattern;

public class Main {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var run = HttpRequest.newBuilder(URI.create("https://fal.run/" + arguments[0]))
            .header("Authorization", "Key of:mine").header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString(arguments[1])).build();
        var output = client.send(run, BodyHandlers.ofString()).body();
        var url = Pattern.compile("\"url\":\\s*\"([^\"]+)\"").matcher(output);
        if (!url.find()) throw new Exception(output);
        var image = client.send(HttpRequest.newBuilder(URI.create(url.group(1))).build(), BodyHandlers.discarding());
        if (!image.headers().firstValue("content-type").orElse("").equals("image/jpeg")) throw new Exception("no image");
        System.out.println("OK");
    }
}
