<?php
// Runs before every request, once its body has arrived. While the site is being copied (the file exists) reading goes
// on, and whatever may write is refused visibly. The guarantee is the database, which then takes no write; this is the
// courtesy that says so.

declare(strict_types=1);

(static function (): void {
    if (!is_file('/run/site/frozen')) {
        return;
    }
    $script = (string) ($_SERVER['SCRIPT_NAME'] ?? '');
    $reads = in_array($_SERVER['REQUEST_METHOD'] ?? '', ['GET', 'HEAD', 'OPTIONS'], true)
        && !isset($_GET['_method']) && !isset($_SERVER['HTTP_X_HTTP_METHOD_OVERRIDE'])
        && in_array($script, ['/index.php', '/wp-links-opml.php', '/wp-includes/js/tinymce/wp-tinymce.php'], true);
    $program = isset($_GET['rest_route']) || str_starts_with((string) ($_SERVER['REQUEST_URI'] ?? ''), '/wp-json')
        || in_array($script, ['/wp-admin/admin-ajax.php', '/wp-admin/async-upload.php'], true);
    $refuse = static function () use ($program): never {
        http_response_code(503);
        header('Retry-After: 10');
        header('Cache-Control: no-store');
        if ($program) {
            $sentence = 'Le site est mis à jour : rien n’a été enregistré. Réessayez dans quelques instants.';
            header('Content-Type: application/json; charset=UTF-8');
            echo json_encode(['success' => false, 'code' => 'provision_frozen', 'message' => $sentence, 'data' => ['status' => 503, 'message' => $sentence]], JSON_UNESCAPED_UNICODE);
        } else {
            header('Content-Type: text/html; charset=UTF-8');
            readfile('/srv/provision/frozen.html');
        }
        exit;
    };
    $reads || $refuse();
    // Called by the must-use plugin when a page that is only read wants to write all the same.
    $GLOBALS['provision_refuse'] = $refuse;
})();
