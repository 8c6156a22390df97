<?php
/**
 * Plugin Name: Journal des connexions et des publications
 * Description: Qui s’est connecté, a publié, a changé un rôle : conservé par la collectivité, sans contenu ni mot de passe.
 */

// Not with strict types: WordPress's hooks hand over numbers as text here and there.

/**
 * Tells the host's recorder what happened, by a socket that only takes. Where nobody hears, the site goes on: all that
 * one request tells may wait a tenth of a second.
 */
function provision_tell(string $event, string $object = '', ?string $user = null): void
{
    static $door = null;
    static $patience = 20;
    $door ??= @stream_socket_client('udg:///run/activity/in.sock', timeout: 0.1);
    if ($door === false) {
        return;
    }
    $user ??= (string) wp_get_current_user()->user_login; // nobody's is false
    $told = ['event' => $event, 'user' => mb_substr($user, 0, 60), 'object' => mb_substr($object, 0, 200)];
    $line = (string) json_encode($told, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE);
    stream_set_blocking($door, false);
    while (@fwrite($door, $line) !== strlen($line) && $patience > 0) {
        $patience--;
        usleep(5000);
    }
}

/** What WordPress keeps for itself in its table of posts is nobody's publication. */
function provision_is_published_by_people(WP_Post $post): bool
{
    $type = get_post_type_object($post->post_type);
    return $type !== null && ($type->public || $type->show_ui) && $post->post_type !== 'revision';
}

function provision_login_of(int $user): string
{
    return (string) (get_userdata($user)->user_login ?? "user $user");
}

/** Tells what a hook says. Plugins call WordPress's hooks in odd ways: none of them may cost the site a page. */
function provision_when(string $hook, callable $tell, int $arguments = 1): void
{
    add_action($hook, static function (...$given) use ($hook, $tell): void {
        try {
            $tell(...$given);
        } catch (Throwable $odd) {
            error_log("activity: $hook: " . $odd->getMessage());
        }
    }, 10, $arguments);
}

provision_when('wp_login', static fn (string $login) => provision_tell('login', '', $login));
// Some type their password where their name belongs: only the name of an account is told.
provision_when('wp_login_failed', static function (string $name): void {
    $account = get_user_by('login', $name) ?: get_user_by('email', $name);
    provision_tell('login_failed', $account ? '' : 'no such account', $account ? $account->user_login : '');
});
provision_when('wp_logout', static fn (int $user) => provision_tell('logout', '', provision_login_of($user)));
provision_when('after_password_reset', static fn (WP_User $user) => provision_tell('password_changed', $user->user_login));
provision_when('profile_update', static function (int $user, WP_User $before): void {
    $after = get_userdata($user);
    if ($after && $after->user_pass !== $before->user_pass) {
        provision_tell('password_changed', $after->user_login);
    }
}, 2);
foreach (['create' => 'created', 'delete' => 'deleted'] as $does => $done) {
    provision_when("wp_{$does}_application_password", static fn (int $user, array $item) => provision_tell("application_password_$done", provision_login_of($user) . ": $item[name]"), 2);
}
provision_when('application_password_did_authenticate', static fn (WP_User $user, array $item) => provision_tell('application_password_used', (string) $item['name'], $user->user_login), 2);

provision_when('transition_post_status', static function (string $new, string $old, WP_Post $post): void {
    if ($new !== $old && in_array('publish', [$new, $old], true) && provision_is_published_by_people($post)) {
        provision_tell($new === 'publish' ? 'published' : 'unpublished', "$post->post_type $post->ID");
    }
}, 3);
provision_when('deleted_post', static function (int $id, WP_Post $post): void {
    if ($post->post_status !== 'auto-draft' && provision_is_published_by_people($post)) {
        provision_tell('deleted', "$post->post_type $id");
    }
}, 2);

provision_when('user_register', static fn (int $user) => provision_tell('user_created', provision_login_of($user)));
provision_when('deleted_user', static fn (int $id, $to, WP_User $user) => provision_tell('user_deleted', $user->user_login), 3);
// Every way of changing a role, or a single right, ends here.
foreach (['added_user_meta', 'updated_user_meta'] as $written) {
    provision_when($written, static function (int $row, int $user, string $key, $value): void {
        if ($key === $GLOBALS['wpdb']->get_blog_prefix() . 'capabilities') {
            $roles = implode(', ', array_keys(array_filter((array) $value))) ?: 'none';
            provision_tell('role_changed', provision_login_of($user) . ": $roles");
        }
    }, 4);
}

provision_when('activated_plugin', static fn (string $plugin) => provision_tell('plugin_activated', $plugin));
provision_when('deactivated_plugin', static fn (string $plugin) => provision_tell('plugin_deactivated', $plugin));
provision_when('switch_theme', static fn (string $name, WP_Theme $theme) => provision_tell('theme_activated', $theme->get_stylesheet()), 2);
