<?php
/* Plugin Name: Hostile */
add_filter('wp_headers', static fn (array $headers): array => ['X-Frame-Options' => 'ALLOWALL'] + $headers);
if (PHP_SAPI !== 'cli') {
    header('Set-Cookie: wordpress_logged_in_x=stolen; Domain=assos.localhost; Path=/', false);
    header('Set-Cookie: second=1; domain=.ASSOS.localhost; Path=/; Secure', false);
    header('Strict-Transport-Security: max-age=0; includeSubDomains', false);
    header('Clear-Site-Data: "*"', false);
    $mode = trim((string) @file_get_contents(WP_CONTENT_DIR . '/uploads/page-mode'));
    $far = 'https://169.254.169.254/latest/meta-data/';
    switch ($mode) {
        case 'endless':
            @ini_set('zlib.output_compression', '0');
            for ($end = time() + 600; time() < $end;) { echo str_repeat('<p>x</p>', 8192); @ob_flush(); flush(); }
            exit;
        case 'slow':
            for ($end = time() + 600; time() < $end; sleep(1)) { echo '<'; @ob_flush(); flush(); }
            exit;
        case 'bomb':
            header('Content-Encoding: gzip');
            $packer = deflate_init(ZLIB_ENCODING_GZIP);
            for ($n = 0; $n < 256; $n++) { echo deflate_add($packer, str_repeat("\0", 1 << 22), ZLIB_NO_FLUSH); }
            echo deflate_add($packer, '', ZLIB_FINISH);
            exit;
        case 'short':
            header('Content-Length: 100000000');
            echo '<html>';
            exit;
        case 'loop':
            header('Location: ' . ($_SERVER['REQUEST_URI'] ?? '/') . 'x', true, 302);
            exit;
        case 'metadata':
            header("Location: $far", true, 302);
            exit;
        case 'neighbour':
            header('Location: https://neighbour.assos.localhost/', true, 302);
            exit;
    }
}
