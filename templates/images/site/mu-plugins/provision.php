<?php
/**
 * Plugin Name: Hébergement de la collectivité
 * Description: Vie privée, mises à jour et invitations : réglages communs à tous les sites hébergés.
 */

declare(strict_types=1);

// No page makes a visitor's browser speak to a third party.
add_action('init', static function (): void {
    foreach (['wp_head' => 7, 'admin_print_scripts' => 10, 'embed_head' => 10] as $hook => $priority) {
        remove_action($hook, 'print_emoji_detection_script', $priority);
    }
    foreach (['wp_print_styles', 'admin_print_styles'] as $hook) {
        remove_action($hook, 'print_emoji_styles');
    }
    foreach (['the_content_feed' => 'wp_staticize_emoji', 'comment_text_rss' => 'wp_staticize_emoji', 'wp_mail' => 'wp_staticize_emoji_for_email'] as $hook => $filter) {
        remove_filter($hook, $filter);
    }
});
add_filter('emoji_svg_url', '__return_false');
add_filter('tiny_mce_plugins', static fn (array $plugins): array => array_diff($plugins, ['wpemoji']));
add_filter('pre_get_avatar_data', static function (array $data): array {
    // An empty picture of our own instead of gravatar.com's.
    return ['url' => 'data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'found_avatar' => false] + $data;
});
add_filter('wp_resource_hints', static function (array $hints, string $kind): array {
    return in_array($kind, ['dns-prefetch', 'preconnect'], true) ? [] : $hints;
}, PHP_INT_MAX, 2);
// The dashboard's news and the directories of patterns and fonts come from wordpress.org.
add_filter('should_load_remote_block_patterns', '__return_false');
add_action('wp_dashboard_setup', static fn () => remove_meta_box('dashboard_primary', 'dashboard', 'side'));
add_filter('block_editor_settings_all', static fn (array $settings): array => ['enableOpenverseMediaCategory' => false] + $settings);
// The editors' guides show pictures from there too: nobody is greeted with one who has not asked for it.
add_filter('default_user_metadata', static function ($value, int $user, string $key, bool $single) {
    if (!str_ends_with($key, 'persisted_preferences')) {
        return $value;
    }
    $guides = array_fill_keys(['welcomeGuide', 'welcomeGuidePage', 'welcomeGuideStyles', 'welcomeGuideTemplate'], false);
    $known = array_fill_keys(['core', 'core/customize-widgets', 'core/edit-post', 'core/edit-site', 'core/edit-widgets'], $guides);
    return $single ? $known : [$known];
}, 10, 4);

// While the site is being copied, or in closing (gate.php), nothing is written. What WordPress notes for itself while a
// page is read is left out; an address with a query that writes anything else was meant to change something, and is
// refused. Where one may log in, that alone is written.
if (isset($GLOBALS['provision_refuse'])) {
    add_filter('query', static function (string $query): string {
        global $wpdb;
        if (preg_match('/^[\s(]*(?:INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|ALTER|CREATE|DROP)\b/i', $query) !== 1) {
            return $query;
        }
        $notes = [$wpdb->options];
        if (isset($GLOBALS['provision_closed'])) {
            if (($_SERVER['SCRIPT_NAME'] ?? '') === '/wp-login.php') {
                $logs_in = preg_match("/^(?:INSERT INTO|UPDATE|DELETE FROM)\\s+`?(?:$wpdb->users|$wpdb->usermeta)`?\\s/", ltrim($query));
                return $logs_in === 1 ? $query : '';
            }
            $notes[] = $wpdb->usermeta;
        }
        if (($_SERVER['QUERY_STRING'] ?? '') !== '' && array_filter($notes, static fn (string $table): bool => str_contains($query, $table)) === []) {
            ($GLOBALS['provision_refuse'])();
        }
        return '';
    }, PHP_INT_MAX);
}

// In closing, whoever logs in may look around and export: there is nothing to press that would be refused.
if (isset($GLOBALS['provision_closed'])) {
    add_filter('user_has_cap', static fn (array $allowed): array => array_intersect_key($allowed, ['read' => true, 'level_0' => true, 'export' => true]), PHP_INT_MAX);
    // Tools belong to authors; where exporting is all that is left of them, and has taken their place, it would be hidden.
    add_action('admin_menu', static function (): void {
        foreach ($GLOBALS['menu'] as $place => $item) {
            if (in_array($item[2], ['tools.php', 'export.php'], true)) {
                $GLOBALS['menu'][$place][1] = 'export';
            }
        }
    }, PHP_INT_MAX);
    add_filter('comments_open', '__return_false', PHP_INT_MAX);
    add_action('admin_notices', static function (): void {
        $until = esc_html($GLOBALS['provision_closed']['until']);
        $export = current_user_can('export') ? ' <a href="' . esc_url(admin_url('export.php')) . '">Exporter les contenus</a>' : '';
        echo "<div class=\"notice notice-warning\"><p>La convention de votre association a pris fin : le site est en lecture seule jusqu’au $until.$export</p></div>";
    });
}

// Core's version is the council's business, and changes with the image.
add_filter('user_has_cap', static fn (array $allowed): array => ['update_core' => false] + $allowed, PHP_INT_MAX);
add_filter('pre_site_transient_update_core', static fn (): object => (object) ['updates' => [], 'version_checked' => get_bloginfo('version'), 'last_checked' => time()]);
add_action('init', static function (): void {
    remove_action('wp_version_check', 'wp_version_check');
    remove_action('admin_init', '_maybe_update_core');
});
add_action('admin_init', static function (): void {
    remove_action('admin_notices', 'update_nag', 3);
    remove_action('admin_notices', 'maintenance_nag');
});

// Its list of languages would be asked of wordpress.org.
add_filter('login_display_language_dropdown', '__return_false');

// An invitation that no longer works says whom to ask.
add_filter('wp_login_errors', 'provision_explain_link');
add_action('lost_password', 'provision_explain_link');
function provision_explain_link(WP_Error $errors): WP_Error
{
    foreach (['expiredkey' => 'Ce lien a expiré.', 'invalidkey' => "Ce lien n’est pas valable, ou il a déjà servi."] as $code => $sentence) {
        if ($errors->get_error_message($code) !== '') {
            $errors->remove($code);
            $mail = esc_html(PROVISION_SUPPORT);
            $errors->add($code, "$sentence Pour en recevoir un nouveau, écrivez à <a href=\"mailto:$mail\">$mail</a>.");
        }
    }
    return $errors;
}

// Pingbacks: neither sent nor taken.
add_filter('xmlrpc_methods', static fn (array $methods): array => array_diff_key($methods, array_flip(['pingback.ping', 'pingback.extensions.getPingbacks'])));
add_filter('wp_headers', static fn (array $headers): array => array_diff_key($headers, ['X-Pingback' => true]));
add_filter('pings_open', '__return_false');
add_filter('pre_option_default_pingback_flag', '__return_zero');

// Who administers the site is nobody's business: a login name is half of what an attacker needs. For visitors there is
// no list, page, feed or sitemap of authors, and nothing shows a name by which somebody logs in.
add_filter('rest_request_before_callbacks', static function ($response, array $handler, WP_REST_Request $request) {
    // Asked for each request, also for what another one embeds (?_embed=author) or carries (batch).
    $closed = preg_match('#^/wp/v2/users(?:/|$)#i', $request->get_route()) === 1 && !is_user_logged_in();
    return $closed ? new WP_Error('rest_forbidden', 'Connectez-vous pour voir cette page.', ['status' => 401]) : $response;
}, PHP_INT_MAX, 3);
add_filter('request', static function (array $query): array {
    return is_admin() || is_user_logged_in() ? $query : array_diff_key($query, ['author' => true, 'author_name' => true])
        + (isset($query['author']) || isset($query['author_name']) ? ['error' => '404'] : []);
});
add_filter('wp_sitemaps_add_provider', static fn ($provider, string $name) => $name === 'users' ? false : $provider, 10, 2);
add_filter('oembed_response_data', static fn (array $data): array => array_diff_key($data, ['author_name' => true, 'author_url' => true]));
if (PHP_SAPI !== 'cli') { // the host's own programs export the site as it is
    $provision_is_login = static function (string $name): bool {
        static $known = [];
        // The database takes accents for nothing: "Secrétariat" is no login because "secretariat" is one.
        return $known[$name] ??= strcasecmp(get_user_by('login', $name)->user_login ?? '', $name) === 0;
    };
    // Who gave no other name is shown by the association's.
    $provision_shown = static fn ($name) => is_string($name) && !is_user_logged_in() && $provision_is_login($name) ? get_bloginfo('name') : $name;
    foreach (['the_author', 'get_comment_author', 'get_the_author_display_name', 'get_the_author_nickname'] as $hook) {
        add_filter($hook, $provision_shown, PHP_INT_MAX);
    }
    foreach (['get_the_author_nicename', 'get_the_author_user_nicename', 'get_the_author_login', 'get_the_author_user_login'] as $hook) {
        add_filter($hook, static fn ($name) => is_user_logged_in() ? $name : '', PHP_INT_MAX);
    }
    add_filter('author_link', static fn (string $link): string => is_user_logged_in() ? $link : home_url('/'), PHP_INT_MAX);
    add_filter('author_feed_link', static fn (string $link): string => is_user_logged_in() ? $link : home_url('/'), PHP_INT_MAX);
    add_filter('comment_class', static fn (array $classes): array => is_user_logged_in() ? $classes : preg_grep('/^comment-author-/', $classes, PREG_GREP_INVERT), PHP_INT_MAX);
    add_filter('rest_prepare_comment', static function (WP_REST_Response $response) use ($provision_shown): WP_REST_Response {
        if (isset($response->data['author_name'])) {
            $response->data['author_name'] = $provision_shown($response->data['author_name']);
        }
        return $response;
    }, PHP_INT_MAX);
}

// The sites are French, even where Debian's translations are missing or older than its WordPress: what visitors and
// newcomers read is completed from a file.
add_filter('get_available_languages', static fn (array $known): array => array_values(array_unique([...$known, 'fr_FR'])));
/** @return array<string, string> */
function provision_french(): array
{
    static $french = null;
    $french ??= json_decode((string) file_get_contents('/srv/provision/visitor-fr.json'), true);
    // Asking for the locale may ask who is logged in, which WordPress 6.1 answers by way of a translation.
    static $asking = false;
    if ($asking) {
        return [];
    }
    $asking = true;
    $locale = determine_locale();
    $asking = false;
    return $locale === 'fr_FR' ? $french : [];
}
$provision_complete = static fn (string $translated, string $text): string => $translated === $text ? provision_french()[$text] ?? $translated : $translated;
add_filter('gettext', $provision_complete, 10, 2);
add_filter('gettext_with_context', $provision_complete, 10, 2);
// Scripts have words of their own; a script's own translations, where there are any, come later and win.
$provision_tell_scripts = static function (): void {
    $words = array_map(static fn (string $text): array => [$text], provision_french());
    wp_add_inline_script('wp-i18n', 'wp.i18n.setLocaleData(' . wp_json_encode($words + ['' => ['domain' => 'messages', 'lang' => 'fr']]) . ');');
};
add_action('login_enqueue_scripts', $provision_tell_scripts);
add_action('admin_enqueue_scripts', $provision_tell_scripts);
