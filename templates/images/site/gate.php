<?php
// Runs before every request, once its body has arrived. While the site is being copied (the first file exists), or for
// as long as it is in closing (the second one does), reading goes on, and whatever may write is refused visibly. The
// guarantee is the database, which then takes no write; this is the courtesy that says so.

declare(strict_types=1);

(static function (): void {
    $frozen = is_file('/run/site/frozen');
    $closed = '/run/secrets/site/closed.json';
    if (!$frozen && !is_file($closed)) {
        return;
    }
    $script = (string) ($_SERVER['SCRIPT_NAME'] ?? '');
    $gets = in_array($_SERVER['REQUEST_METHOD'] ?? '', ['GET', 'HEAD', 'OPTIONS'], true)
        && !isset($_GET['_method']) && !isset($_SERVER['HTTP_X_HTTP_METHOD_OVERRIDE']);
    $reads = $gets && in_array($script, ['/index.php', '/wp-links-opml.php', '/wp-includes/js/tinymce/wp-tinymce.php'], true);
    $program = isset($_GET['rest_route']) || str_starts_with((string) ($_SERVER['REQUEST_URI'] ?? ''), '/wp-json')
        || in_array($script, ['/wp-admin/admin-ajax.php', '/wp-admin/async-upload.php'], true);
    $status = 503;
    $sentence = 'Le site est mis à jour : rien n’a été enregistré. Réessayez dans quelques instants.';
    $page = '/srv/provision/frozen.html';
    $words = [];
    if (!$frozen) {
        // Its administrators log in, look around and export.
        $acts = in_array($script, ['/wp-admin/admin-ajax.php', '/wp-admin/admin-post.php', '/wp-admin/async-upload.php'], true);
        $reads = $reads || $script === '/wp-login.php' || ($gets && !$acts && str_starts_with($script, '/wp-admin/'));
        $told = (array) json_decode((string) file_get_contents($closed), true) + ['until' => '', 'council' => '', 'mail' => ''];
        $GLOBALS['provision_closed'] = $told;
        $status = 403;
        $sentence = "Ce site est en lecture seule jusqu’au $told[until], car la convention de l’association a pris fin : rien n’a été enregistré.";
        $page = '/srv/provision/closed.html';
        foreach ($told as $name => $value) {
            $words["{{$name}}"] = htmlspecialchars((string) $value, ENT_QUOTES);
        }
    }
    $refuse = static function () use ($program, $status, $sentence, $page, $words): never {
        http_response_code($status);
        $status === 503 && header('Retry-After: 10');
        header('Cache-Control: no-store');
        if ($program) {
            header('Content-Type: application/json; charset=UTF-8');
            echo json_encode(['success' => false, 'code' => 'provision_frozen', 'message' => $sentence, 'data' => ['status' => $status, 'message' => $sentence]], JSON_UNESCAPED_UNICODE);
        } else {
            header('Content-Type: text/html; charset=UTF-8');
            echo strtr((string) file_get_contents($page), $words);
        }
        exit;
    };
    $reads || $refuse();
    // Called by the must-use plugin when a page that is only read wants to write all the same.
    $GLOBALS['provision_refuse'] = $refuse;
})();
